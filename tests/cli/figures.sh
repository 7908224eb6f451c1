#!/bin/sh
# Figures: heatmap, profile, figure; what they carry, and drawing them again.
. tests/cli/lib.sh
work=$dir/figures
mkdir "$work"
works "trace" trace "$T" --tokens 1,2,3,4,5,6,7,8 --scores grad_norm,grad_x_act,own,share,param -o "$R"
works "trace of another text" trace "$T" --tokens 1,2,3,4,5,6,7,9 --scores grad_norm,own -o "$dir/other.safetensors"
works "trace without own" trace "$T" --tokens 1,2,3 -o "$dir/plain.safetensors"
cd "$work" || exit 1
cp "$R" r.safetensors
cp "$dir/other.safetensors" other.safetensors

for c in heatmap profile figure redo; do
    works "$c --help" "$c" --help
    holds "$c --help has an example" "$dir/out" "^  backflow $c "
done

# ---- what can be drawn
works "small multiples" heatmap r.safetensors --site v --layers all --heads all --scale log -o grid.svg
works "a choice of layers" heatmap r.safetensors --site resid_pre --layers 0,1 --columns 2 -o layers.png
works "rank" heatmap r.safetensors --site attn --scale rank --width 3.5in -o rank.pdf
for t in share.mlp param.q own_future.cosine loss; do
    works "tensor $t" heatmap r.safetensors --site $t -o tensor.svg
done
works "rows that add up to 1" heatmap r.safetensors --site resid_pre --by-row -o rows.svg
holds "rows say so" rows.svg ">part of its row</text>"
works "difference" heatmap r.safetensors --minus r.safetensors --site resid_pre -o diff.svg
holds "the difference to itself is 0" diff.svg ">exactly 0</text>"
works "profile" profile r.safetensors -o profile.svg
works "profile of two" profile r.safetensors other.safetensors --parts lag,layer --columns 1 -o two.pdf
works "strip" figure strip r.safetensors --loss 4 -o strip.png
works "strip of a source" figure strip r.safetensors --source 2 --numbers --score grad_x_act -o strip.svg
works "a width in points" heatmap r.safetensors --site resid_pre --width 252pt -o width.svg
holds "is kept" width.svg 'width="252pt"'
works "caption" heatmap r.safetensors --site resid_pre --caption -o c.pdf
holds "caption includes the figure" c.tex 'includegraphics\[width=[0-9.]*mm\]\{c.pdf\}'
if command -v pdffonts >/dev/null; then
    pdffonts c.pdf >fonts
    holds "fonts are embedded" fonts "TrueType.* yes "
    is "no Type 3 fonts" sh -c '! grep -q "Type 3" fonts && ! grep -qE " no +(yes|no) +(yes|no) +[0-9]" fonts'
else skip "fonts of a PDF" "no pdffonts"; fi

# ---- what is refused
refuses "layer and layers" "both given" heatmap r.safetensors --site v --layer 0 --layers all -o x.png
refuses "width and columns" "both given" heatmap r.safetensors --site v --width 9cm --columns 1 -o x.png
refuses "three columns" "wanted 1 or 2" heatmap r.safetensors --site v --columns 3 -o x.png
for bad in "" 0 -1mm 1e3 nan 5parsec mm 1.2.3mm; do
    refuses "width '$bad'" "--width: .*no length" heatmap r.safetensors --site v --width="$bad" -o x.png
done
refuses "a width too small" "wanted 20 to 5000" heatmap r.safetensors --site v --width 1mm -o x.png
refuses "scale" "no scale, wanted linear, log or rank" heatmap r.safetensors --site v --scale cubic -o x.png
refuses "font" "no font \"Nope\"" heatmap r.safetensors --site v --font Nope -o x.png
refuses "layer that is not there" "no layer 9" heatmap r.safetensors --site v --layers 0,9 -o x.png
refuses "panels without an axis" "no axis of heads" heatmap r.safetensors --site resid_pre --heads 0 -o x.png
refuses "difference of other tokens" "tokens at 7 is 8 in one and 9 in the other" heatmap r.safetensors \
    --minus other.safetensors --site resid_pre -o x.png
refuses "part" "no part, wanted lag" profile r.safetensors --parts lag,foo -o x.png
refuses "profile without own" "trace with --scores own" profile "$dir/plain.safetensors" --parts layer -o x.png
refuses "kind" "no kind \"pie\"" figure pie r.safetensors -o x.png
refuses "loss that is not there" "no loss 7" figure strip r.safetensors --loss 7 -o x.png
refuses "no output" "no -o FILE" profile r.safetensors
is "nothing is left behind" sh -c '! ls | grep -q "^x\."'

# ---- provenance, and drawing again
works "graph" graph r.safetensors --loss 4 -o graph.svg
works "trust" trust r.safetensors "$top/$T" --pairs 20 --no-curves --quiet -o trust.png
for f in grid.svg layers.png rank.pdf two.pdf strip.png graph.svg trust.png c.pdf; do
    works "info $f" info "$f"
    holds "info $f has the record's SHA-256" "$dir/out" "$(sha256sum r.safetensors | cut -d' ' -f1)"
    works "redo $f" redo "$f"
    works "redo $f into a file" redo "$f" -o "again.${f##*.}"
    is "redo $f makes the same bytes" cmp "$f" "again.${f##*.}"
done
run info rank.pdf --json
cp "$dir/out" info.json
json "info --json is JSON" info.json
holds "the command is an array" info.json '"argv":\["heatmap","r.safetensors","--site","attn"'
works "the same figure under another name" heatmap r.safetensors --site attn --scale rank --width 3.5in \
    --caption -o other_name.pdf
is "is the same bytes" cmp rank.pdf other_name.pdf
refuses "redo into another format" "does not end like the figure" redo rank.pdf -o again.png
cp r.safetensors kept
printf ' ' >>r.safetensors
refuses "redo after the record changed" "made of the record r.safetensors with SHA-256 [0-9a-f]{64}, found" \
    redo rank.pdf -o changed.pdf
is "and writes nothing" test ! -e changed.pdf
mv kept r.safetensors

# ---- figures from strangers
forge() { # name, argv as JSON
    printf '<svg><metadata id="backflow">{"backflow":"0.1.0","argv":%s,"inputs":[]}</metadata></svg>' "$2" >"$1"
}
for bad in '["trace","x"]' '["sh","-c","touch owned"]' '[]' '"heatmap"' '[7]' '["redo","evil.svg"]' \
    '["../heatmap"]'; do
    forge evil.svg "$bad"
    refuses "redo of $bad" "wanted one that draws" redo evil.svg -o again.svg
done
forge evil.svg '["heatmap","r.safetensors","--site","v","-o","owned.svg"]'
refuses "redo of another output" "-o is given twice" redo evil.svg -o again2.svg
forge evil.svg '["heatmap","r.safetensors",{}]'
refuses "redo of an argument that is no string" "no string" redo evil.svg -o again2.svg
forge evil.svg '["graph","r.safetensors","--loss","1","--site","\u001b[31m"]'
refuses "redo with control characters" "unknown option" redo evil.svg -o again2.svg
printf '<svg><metadata id="backflow">{"argv":' >evil.svg
refuses "cut off" "no provenance" redo evil.svg
printf '\211PNG\r\n\032\n\377\377\377\377iTXtbackflow' >evil.png
refuses "a chunk beyond the file" "no provenance" info evil.png
printf '%%PDF-1.4\n/Keywords (\\' >evil.pdf
refuses "a string without an end" "no provenance" info evil.pdf
printf '<svg/>' >plain.svg
refuses "somebody else's figure" "no provenance" info plain.svg
mkfifo pipe
printf '<svg><metadata id="backflow">{"backflow":"0","argv":["heatmap","r"],"inputs":[{"kind":"record","path":"pipe","sha256":"0"}]}</metadata></svg>' >evil.svg
refuses "an input that never ends" "no plain file" redo evil.svg -o again2.svg
is "nobody else's file was written" sh -c 'test ! -e owned -a ! -e owned.svg -a ! -e again2.svg'
finished
