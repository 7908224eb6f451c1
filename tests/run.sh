#!/bin/sh
# Run every test of the builds named (plain and sanitized) and count: tests/run.sh BUILD...
passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
note() { # name, status
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; fi
}
one() { # name, command...: cmocka programs count their own tests
    name=$1
    shift
    "$@" >"$log" 2>&1
    status=$?
    grep -E '^skipped|SKIP' "$log"
    ok=$(grep -c '^\[       OK \]' "$log")
    bad=$(grep -c '^\[  FAILED  \] [a-z_0-9]*$' "$log")
    if [ "$ok" = 0 ] && [ "$bad" = 0 ]; then
        note "$name" $status
    else
        passed=$((passed + ok))
        failed=$((failed + bad))
        [ $status != 0 ] && [ "$bad" = 0 ] && note "$name (ended with $status)" 1
    fi
    [ $status = 0 ] || tail -n 40 "$log"
}
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
export BACKFLOW_MODELS=examples/models LSAN_OPTIONS=suppressions=tests/lsan.supp:print_suppressions=0
one "layers" sh tests/layers.sh
for build in "$@"; do
    for t in "$build"/tests/test_*; do
        case $t in *.o | *.d) continue ;; esac
        echo "$t"
        one "$t" "$t"
    done
    for t in tests/cli/*.sh; do
        [ "$t" = tests/cli/lib.sh ] && continue
        echo "$t $build"
        sh "$t" "$build/backflow" >"$log" 2>&1
        status=$?
        grep -E '^(not ok|skip)' "$log"
        passed=$((passed + $(grep -c '^ok' "$log")))
        failed=$((failed + $(grep -c '^not ok' "$log")))
        [ $status != 0 ] && ! grep -q '^not ok' "$log" && note "$t $build" 1
    done
done
sh tests/browser/report.sh "$1/backflow" "$1" >"$log" 2>&1
status=$?
grep -E '^(not ok|skip)' "$log"
passed=$((passed + $(grep -c '^ok' "$log")))
failed=$((failed + $(grep -c '^not ok' "$log")))
[ $status != 0 ] && ! grep -q '^not ok' "$log" && note "tests/browser/report.sh" 1
for e in "$1"/examples/*; do
    case $e in *.o | *.d) continue ;; esac
    [ -x "$e" ] && one "$e" "$e"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
