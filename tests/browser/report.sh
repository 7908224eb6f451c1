#!/bin/sh
# The report's page in a real browser: sh tests/browser/report.sh BACKFLOW BUILD
# Chromium is driven by selenium; without them one line says that this was skipped. axe-core comes by
# npm into BUILD, once; without npm or a network its part is skipped, and says so.
set -u
case ${1:?"usage: sh tests/browser/report.sh BACKFLOW BUILD"} in /*) B=$1 ;; *) B=$PWD/$1 ;; esac
case ${2:?} in /*) build=$2 ;; *) build=$PWD/$2 ;; esac
python=
for p in /usr/bin/python3 python3; do
    "$p" -c 'import selenium' 2>/dev/null && python=$p && break
done
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
driver=$(command -v chromedriver)
if [ -z "$python" ] || [ -z "$browser" ] || [ -z "$driver" ]; then
    echo "skip browser: no chromium, chromedriver or python3-selenium (make deps installs them)"
    echo "0 passed, 0 failed"
    exit 0
fi
axe=$build/axe/node_modules/axe-core/axe.min.js
if [ ! -s "$axe" ]; then
    mkdir -p "$build/axe" &&
        timeout 120 npm install --prefix "$build/axe" --no-save --no-audit --no-fund --silent axe-core@4.10.3 \
            >/dev/null 2>&1
fi
[ -s "$axe" ] || axe=
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
export BACKFLOW_MODELS="${BACKFLOW_MODELS:-$PWD/examples/models}"
"$python" tests/browser/report.py --backflow "$B" --folder "$dir" --browser "$browser" --driver "$driver" \
    --axe "$axe" --shots "$build/shots"
