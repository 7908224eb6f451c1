#!/bin/sh
# What the end-to-end tests of the command share; each begins with `. tests/cli/lib.sh` and ends with
# `finished`. Run from the checkout: sh tests/cli/NAME.sh build/backflow
# Prints ok / not ok / skip lines and ends "N passed, N failed"; 1 if any failed.
set -u
case ${1:?"usage: sh tests/cli/NAME.sh BACKFLOW"} in /*) B=$1 ;; *) B=$PWD/$1 ;; esac
[ -x "$B" ] || { echo "not ok $B: no such program"; exit 1; }
top=$PWD
passed=0
failed=0
dir=$(mktemp -d)
mounted=
finish() {
    for m in $mounted; do umount "$m" 2>/dev/null; done
    chmod -R u+w "$dir" 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM
LC_ALL=C
# Under the leak sanitizer: what these two libraries never free is not ours.
printf 'leak:libfontconfig\nleak:libgvc\n' >"$dir/lsan.supp"
LSAN_OPTIONS=suppressions=$dir/lsan.supp:print_suppressions=0
export LC_ALL LSAN_OPTIONS

pass() { passed=$((passed + 1)); echo "ok $1"; }
fail() { failed=$((failed + 1)); echo "not ok $1: $2"; }
skip() { echo "skip $1: $2"; }
is() { # name, condition...: any command
    name=$1
    shift
    if "$@"; then pass "$name"; else fail "$name" "$*"; fi
}
holds() { # name, file, extended pattern
    if grep -qE -e "$3" "$2"; then pass "$1"; else fail "$1" "no $3 in: $(head -c 300 "$2")"; fi
}
# run: $status, $dir/out, $dir/err
run() { "$B" "$@" >"$dir/out" 2>"$dir/err" </dev/null; status=$?; }
works() { # name, arguments...
    name=$1
    shift
    run "$@"
    if [ $status = 0 ]; then pass "$name"; else fail "$name" "status $status: $(head -c 300 "$dir/err")"; fi
}
# One line on standard error that matches, exit 2, nothing on standard output.
refuses() { # name, pattern, arguments...
    name=$1
    pattern=$2
    shift 2
    run "$@"
    if [ $status != 2 ]; then fail "$name" "status $status, wanted 2: $(head -c 300 "$dir/err")"
    elif [ "$(wc -l <"$dir/err")" != 1 ]; then fail "$name" "wanted one line: $(head -c 300 "$dir/err")"
    elif [ -s "$dir/out" ]; then fail "$name" "words on standard output: $(head -c 200 "$dir/out")"
    elif ! grep -qE -e "^backflow: .*($pattern)" "$dir/err"; then
        fail "$name" "wanted $pattern: $(head -c 300 "$dir/err")"
    else pass "$name"; fi
}
empty() { [ -z "$(ls -A "$1")" ]; }
json() { # name, file: is it JSON?
    if command -v python3 >/dev/null; then
        is "$1" python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$2"
    else skip "$1" "no python3"; fi
}

finished() {
    cd "$top" || exit 1
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

# ---- a model whose tokenizer knows 23 bytes, hostile ones among them
cp -r tests/goldens/llama_tied "$dir/bytes"
chmod -R u+w "$dir/bytes"
cat >"$dir/bytes/tokenizer.json" <<'END'
{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
 "post_processor": null,
 "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
  "vocab": {"Ġ": 0, "Ċ": 1, "<": 2, ">": 3, "b": 4, "/": 5, "\"": 6, "&": 7, "'": 8, "â": 9, "Ģ": 10, "®": 11,
   "a": 12, "c": 13, "d": 14, "e": 15, "h": 16, "l": 17, "o": 18, "r": 19, "t": 20, "w": 21, "i": 22},
  "merges": []}}
END
M=$dir/bytes
T=tests/goldens/llama_tied
R=$dir/r.safetensors
