#!/bin/sh
# backflow report: the folder, the page's bytes, several texts. The page in a browser: tests/browser/.
. tests/cli/lib.sh

works "report" report "$M" --text "$(printf 'the <b>"a&\n\342\200\256</b>')" -o "$dir/report"
page=$dir/report/index.html
for f in run.safetensors index.html embedding_grad_norm.png embedding_grad_norm.svg embedding_grad_norm.pdf \
    middle_grad_norm.png embedding_grad_x_act.png head_v.png graph.svg graph.dot; do
    is "report: $f" [ -s "$dir/report/$f" ]
done
# Nothing in the page names an address of a network, but for the names of XML's own namespaces.
is "report: nothing from the network" sh -c \
    "sed 's/<script type=[^>]*>[^<]*//; s,http://www.w3.org/,,g' '$page' | grep -v '^/\*!' | grep -ciE \
    'https?://|@import|url\((\"|.)?[a-z]+:' >'$dir/n'; [ \"\$(cat '$dir/n')\" = 0 ]"
holds "report: a strict policy" "$page" "default-src 'none'; script-src 'sha256-[^']*' 'sha256-[^']*'; style-src 'sha256-[^']*'; img-src data: blob:;"
is "report: no style attribute, no handler" sh -c \
    "! sed '/^<script>.\*!/,\$d; /^<script/d; /^<style/,/<.style>/d' '$page' | grep -qiE '<[a-z][^>]* (style|on[a-z]+)='"
is "report: no raw direction mark" sh -c "! grep -q \"\$(printf '\\342\\200\\256')\" '$page'"
is "report: no <b> of the text" sh -c "! grep -q '<bdi><b></bdi>' '$page'"
holds "report: < is escaped" "$page" '<bdi>&lt;</bdi>'
holds "report: language" "$page" '<html lang="en">'
holds "report: the sentence" "$page" "of the gradient that reaches a token"
holds "report: identities" "$page" "central_difference</code>.*holds"
works "report over a report" report "$T" --tokens 1,2,3 --quiet -o "$dir/report"
holds "report: the new one" "$page" "· 2 losses ·"
for t in 1,2 1,2,3 4,4,4,4; do
    works "report of tokens $t" report "$T" --tokens $t --quiet --no-check -o "$dir/small"
done
works "report of some losses and layers" report "$T" --tokens 1,2,3,4,5 --losses 1,3 --layers 2 --sites q \
    --scores grad_norm --no-attn -o "$dir/small"
works "report with a window" report tests/goldens/mistral_window --tokens \
    1,2,3,4,5,6,7,8,9,1,2,3 -o "$dir/small"
echo keep >"$dir/report/notes.txt"
refuses "report never over other files" 'holds "notes.txt"' report "$T" --tokens 1,2 -o \
    "$dir/report"
mkdir "$dir/other" && touch "$dir/other/index.html"
refuses "report never over another folder" "no backflow report" report "$T" --tokens 1,2 -o \
    "$dir/other"
refuses "report never over a file" "stands there" report "$T" --tokens 1,2 -o "$dir/report/notes.txt"
refuses "report into a missing folder" "cannot make the folder" report "$T" --tokens 1,2 -o \
    "$dir/no/where"
mkdir "$dir/void"
works "report into an empty folder" report "$T" --tokens 1,2 --quiet -o "$dir/void"
refuses "report: bad input leaves no folder" "vocabulary" report "$T" --tokens 1,99 -o "$dir/never"
is "report: nothing is left" sh -c "! ls -d '$dir'/*backflow-* '$dir/never' >/dev/null 2>&1"
(cd "$dir" && "$B" report "$M" --text "the c" --quiet) 2>"$dir/err"
is "report: default folder" [ -s "$dir/report/notes.txt" ]
rm "$dir/report/notes.txt"
(cd "$dir" && "$B" report "$M" --text "the c" --quiet) 2>"$dir/err"
is "report: replaced by default" grep -q "perplexity" "$dir/report/index.html"

# ---- what the page is made of
works "report: edges of a short text" report "$M" --text "the cat" --quiet -o "$dir/edges"
holds "report: edges were measured" "$dir/edges/index.html" '"measured":true,"edges":\[[0-9]'
holds "report: trust was measured" "$dir/edges/index.html" '"moves":\[\{"what":"resid_pre"'
works "report --no-trust" report "$M" --text "the cat" --quiet --no-trust --no-check --scores grad_norm -o "$dir/edges"
holds "report: says why not" "$dir/edges/index.html" '"no_trust":"--no-trust was given"'
is "report: no graph without shares" sh -c "! grep -q '\"edges\":' '$dir/edges/index.html'"
works "report of the sum of losses" report "$M" --text "the cat" --losses 1:4 --sum --no-check --quiet -o "$dir/edges"
works "report of a logit" report "$M" --text "the cat" --target logit --quiet -o "$dir/edges"
works "report with a tolerance" report "$M" --text "the cat" --tolerance 1e-2 --no-check --quiet -o "$dir/edges"
run report "$M" --text "the cat" --dry-run
is "report --dry-run writes nothing" sh -c "[ $status = 0 ] && grep -q '^positions' '$dir/out'"

# ---- several texts
printf "the cat" >"$dir/text"
works "report of three texts" report "$M" --text "the <b>" --file "$dir/text" --tokens 1,2,3 --quiet -o "$dir/three"
for f in index.html text-01.html text-03.safetensors text-02_graph.svg; do
    is "report of three texts: $f" [ -s "$dir/three/$f" ]
done
is "report of three texts: no fourth" [ ! -e "$dir/three/text-04.html" ]
holds "index: names are text" "$dir/three/index.html" '<a href="text-01.html"><bdi>the &lt;b&gt;</bdi></a>'
holds "index: a file's name" "$dir/three/index.html" '<a href="text-02.html"><bdi>text</bdi></a>'
works "one text over three" report "$M" --text "the cat" --quiet -o "$dir/three"
is "one text over three: the others are gone" [ ! -e "$dir/three/text-01.html" ]
refuses "a bad one of several leaves no folder" "vocabulary" report "$T" --tokens 1,2 --tokens 1,99 --quiet -o "$dir/bad"
is "a bad one of several leaves nothing" sh -c "! ls -d '$dir'/bad* >/dev/null 2>&1"
set --
for k in $(seq 100); do set -- "$@" --tokens 1,2; done
refuses "a hundred texts" "at most 99" report "$T" "$@" -o "$dir/bad"

# ---- size
m=../shared/models/stories260K
if grep -q __asan_init "$B"; then
    skip "size of a report of 512 losses" "measured in the plain build"
elif [ -f "$m/config.json" ]; then
    ids=$(awk 'BEGIN { for (k = 0; k <= 512; k++) printf "%s%d", k ? "," : "", (k * k * 37 + 11 * k) % 400 + 20 }')
    works "report of 512 losses" report "$m" --tokens "$ids" --no-trust --no-check --quiet -o "$dir/long"
    size=$(wc -c <"$dir/long/index.html")
    is "report of 512 losses: $size bytes are under 15 MB" [ "$size" -lt 15000000 ]
else
    skip "size of a report of 512 losses" "no ../shared/models/stories260K"
fi
finished
