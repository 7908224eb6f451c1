#!/bin/sh
# backflow verify: verdicts, exit codes, tables, JSON, JUnit, the page, training that resumes.
. tests/cli/lib.sh
export BACKFLOW_CLAIMS=$top/examples/claims BACKFLOW_MODELS=$top/examples/models

works "help" verify --help
holds "help has examples" "$dir/out" "^examples:"
works "measures" verify --measures
for m in support replace staircase weights_reached attends permute lag_profile spread own_future chain_rule \
    low_entropy teacher_forcing prediction interference kept kept_gap; do
    holds "measures: $m" "$dir/out" "^$m: "
done
works "measures as JSON" verify --measures --json
json "measures are JSON" "$dir/out"

# ---- claims that come with backflow, those that take no time
works "C4" verify C4 --junit "$dir/j.xml"
holds "C4: verdict" "$dir/out" "^C4  refuted: under full attention"
holds "C4: the claim" "$dir/out" "tokens back, only the computation up to"
holds "C4: JUnit" "$dir/j.xml" '<testsuite name="backflow verify" tests="1" failures="0"'
works "C4 as JSON" verify C4 c13 --json --quiet
json "verdicts are JSON" "$dir/out"
holds "verdicts: as expected" "$dir/out" '"verdict": "refuted", "expected": "refuted", "as_expected": true'
is "quiet says nothing" test ! -s "$dir/err"

# ---- a claim of one's own: exit 0, 1, 2
works "own claim" verify examples/claims/own_windows.json
sed 's/"window": 4/"window": 5/' examples/claims/own_windows.json >"$dir/other.json"
run verify "$dir/other.json" --junit "$dir/j.xml"
is "a claim that is wrong: 1" test $status = 1
holds "and says what was expected" "$dir/out" "own-windows  refuted  \(expected: holds\)"
holds "and JUnit fails" "$dir/j.xml" '<failure message="refuted, expected holds">'
sed 's/"than": 0/"then": 0/' examples/claims/own_windows.json >"$dir/broken.json"
refuses "unknown field" "broken.json: /verdicts/0/if/and/1/then: no such field" verify "$dir/broken.json"
echo '{' >"$dir/broken.json"
refuses "no JSON" "broken.json" verify "$dir/broken.json"
refuses "no such claim" "no claim C14" verify C14
refuses "no such file" "none.json" verify "$dir/none.json"

# ---- one's own model
works "own model" verify C2 C4 "$M" --text "abc abc abc" --quiet
holds "own model: C2" "$dir/out" "^C2  holds"
holds "own model: C4" "$dir/out" "^C4  refuted: more is available"
works "own model without text or tokenizer" verify C2 "$T" --quiet
works "own model: hostile text" verify C2 "$M" --text '</w> "&' --quiet
refuses "nothing to ask of any model" "C09.json: nothing in this claim" verify C9 "$M"
refuses "two models" "unexpected argument" verify "$M" "$T"
refuses "text without a model" "for a MODEL" verify C2 --text abc
refuses "text that is too short" "too short" verify C2 "$M" --text a
refuses "no such model" "nowhere" verify C2 "$dir/nowhere"
refuses "page of some claims" "all of them" verify C2 --write "$dir/page.md"
refuses "training for some claims" "no CLAIM" verify C2 --full
refuses "training of some, and a page" "decides nothing" verify --full --only copy --write "$dir/page.md"
refuses "seeds without training" "for --full" verify C2 --seeds 2

# ---- training: units that are there are not made again; a broken result is said
mkdir "$dir/set" "$dir/set/full"
cp examples/claims/*.json examples/claims/texts.txt "$dir/set"
cat >"$dir/set/full/units.json" <<'END'
[{"group": "copy", "config": "copy.json", "seeds": [1, 2], "at": [2],
  "measures": [{"as": "future", "measure": "own_future", "value": "future", "tokens": 16, "documents": 4},
               {"as": "profile", "measure": "lag_profile", "value": "profile", "tokens": 16, "documents": 4}]}]
END
cat >"$dir/set/full/copy.json" <<'END'
{"model": {"family": "llama", "layers": 1, "width": 16, "heads": 2, "positions": 32},
 "data": {"task": {"kind": "copy", "symbols": 8, "least": 3, "most": 8}},
 "context": 24, "batch": 4, "steps": 5, "measure": 5, "measure_batches": 2}
END
export BACKFLOW_CLAIMS=$dir/set
train() { "$B" verify --full --only copy --work "$dir/work" --results "$dir/results" "$@" >"$dir/out" 2>"$dir/err" </dev/null; }
# for the page below: one quick claim of each number, with a table
sed -i 's/^ "expected":/ "tables": [{"title": "Beside others", "columns": ["what", "here"], "rows": [["reached | all", "{full.reached}"]]}],\n "expected":/' "$dir/set/C04.json"
for k in 01 02 03 05 06 07 08 09 10 11 12 13; do
    sed "s/\"C4\"/\"C$k\"/" "$dir/set/C04.json" >"$dir/set/C$k.json"
done
train --seeds 1
is "one unit" test -f "$dir/results/copy-1.json"
is "and nothing is decided" test ! -s "$dir/out"
is "and no more" test ! -f "$dir/results/copy-2.json"
is "its work is gone" test ! -e "$dir/work"
json "a result is JSON" "$dir/results/copy-1.json"
holds "a result: measured" "$dir/results/copy-1.json" '"future": 0\.[0-9]+'
holds "a result: over training" "$dir/results/copy-1.json" '"future_curve": \[0\.[0-9]+, 0\.[0-9]+\]'
holds "a result: what is right" "$dir/results/copy-1.json" '"right": 0'
holds "a result: machine" "$dir/results/copy-1.json" '"machine": ".* processors"'
cp "$dir/results/copy-1.json" "$dir/before.json"
train
is "the other unit" test -f "$dir/results/copy-2.json"
is "the first stays as it was" cmp -s "$dir/before.json" "$dir/results/copy-1.json"
rm "$dir/results/copy-1.json"
train
sed 's/"machine".*//' "$dir/before.json" >"$dir/a"
sed 's/"machine".*//' "$dir/results/copy-1.json" >"$dir/b"
is "made again it is the same" cmp -s "$dir/a" "$dir/b"
# Killed on the way: what was measured after 2 steps is taken from there, and the end is the same.
sed -i 's/"steps": 5/"steps": 300, "checkpoint": 20/' "$dir/set/full/copy.json"
rm -r "$dir/results"
train --seeds 1
sed 's/"machine".*//' "$dir/results/copy-1.json" >"$dir/a"
rm -r "$dir/results"
"$B" verify --full --only copy --work "$dir/work" --results "$dir/results" --seeds 1 >/dev/null 2>&1 </dev/null &
pid=$!
for k in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    [ -f "$dir/work/copy-1.at-2" ] && break
    sleep 0.1
done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
[ -f "$dir/results/copy-1.json" ] && skip "killed after it was measured" "it was done before"
train --seeds 1
sed 's/"machine".*//' "$dir/results/copy-1.json" >"$dir/b"
is "killed and taken up again it is the same" cmp -s "$dir/a" "$dir/b"
is "what was kept on the way is gone" test ! -e "$dir/work"

# ---- the page
works "page" verify --write "$dir/page.md" --quiet
holds "page: verdicts" "$dir/page.md" '^\| \[C4\]\(#C4\) \|'
holds "page: what would refute" "$dir/page.md" '^\*\*Would be refuted\*\* if a loss reaches'
holds "page: tables" "$dir/page.md" '^\| reached \\\| all \| [0-9.]+'
is "page: figures" test -s "$dir/claims/C4-1.svg"
holds "page: figures are shown" "$dir/page.md" '\(claims/C4-1\.svg\)'
cp "$dir/claims/C4-1.svg" "$dir/a"
works "page again" verify --write "$dir/page.md" --quiet
is "figures are the same bytes" cmp -s "$dir/a" "$dir/claims/C4-1.svg"

finished
