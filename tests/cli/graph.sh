#!/bin/sh
# graph: the list of paths, pictures, exports. diff: what differs between records.
. tests/cli/lib.sh

E=$dir/edges.safetensors
works "a record with edges" trace "$T" --tokens 1,2,3,4,5 --scores grad_norm,share,edge --losses 1:4 -o "$E"
works "a record without" trace "$T" --tokens 1,2,3,4,5 -o "$R"

# ---- graph
works "paths of a loss" graph "$E" --loss 3 --paths 3
holds "say what they were made of" "$dir/out" "^the flow is measured \(edge.value\)$"
holds "how much is kept" "$dir/out" '^[0-9]+ of [0-9]+ edges kept, whole paths of them carry [0-9.]+ %'
is "three of them and their sum" [ "$(grep -c '^ *[0-9.]* %' "$dir/out")" = 4 ]
holds "from token to prediction" "$dir/out" '^ *[0-9.]+ %  [0-3] #[0-9]+ .*=> 4 #5$'
works "paths without edges" graph "$R" --loss 3
holds "say that they are a guess" "$dir/out" "rough guide from norms"
works "paths as JSON" graph "$E" --loss 1:4 --json
json "which is JSON" "$dir/out"
holds "of three losses, measured" "$dir/out" '^\{"losses": \[1, 2, 3\], "basis": "edges", '
works "no paths" graph "$E" --loss 3 --paths 0
is "is two lines" [ "$(wc -l <"$dir/out")" = 2 ]
for f in svg png pdf dot json; do
    works "graph as $f" graph "$E" --loss 1:4 --label-heads -o "$dir/g.$f"
done
holds "the SVG names heads when pointed at" "$dir/g.svg" 'xlink:title="layer [0-9], head [0-9] by [kv], '
holds "the SVG says where it comes from" "$dir/g.svg" '&quot;argv&quot;|"argv"'
json "the graph for Neuronpedia is JSON" "$dir/g.json"
works "the same by its name" graph "$E" --loss 1:4 --format neuronpedia -o "$dir/h.json"
is "is the same" cmp -s "$dir/g.json" "$dir/h.json"
cp "$dir/g.svg" "$dir/before.svg"
works "again" graph "$E" --loss 1:4 --label-heads -o "$dir/g.svg"
is "is the same bytes" cmp -s "$dir/g.svg" "$dir/before.svg"
works "a width, a title" graph "$E" --loss 3 --width 89mm --title '' -o "$dir/w.svg"
holds "are obeyed" "$dir/w.svg" 'width="25[0-9]pt"'
cp -r "$M" "$dir/model"
works "hostile tokens" trace "$dir/model" --text "$(printf '<a>\n"b')" --scores grad_norm,share,edge --losses 0: -o "$dir/x.safetensors"
works "their paths" graph "$dir/x.safetensors" --loss 4
is "stay lines" [ "$(grep -c '%.*=>' "$dir/out")" = "$(grep -c '^ *[0-9.]* %  [0-9]* "' "$dir/out")" ]
mkdir "$dir/none"
refuses "loss that is not there" "--loss: loss 9 is not there" graph "$E" --loss 9 -o "$dir/none/x.svg"
refuses "loss that was not chosen" "does not hold loss 0" graph "$E" --loss 0 -o "$dir/none/x.svg"
refuses "bad list" "--loss: " graph "$E" --loss 1,x -o "$dir/none/x.svg"
refuses "ending" "must end in .svg, .pdf, .png or .dot" graph "$E" --loss 3 -o "$dir/none/x.gif"
refuses "format" "unknown format" graph "$E" --loss 3 --format d3 -o "$dir/none/x.json"
refuses "format without a file" "without -o FILE" graph "$E" --loss 3 --format neuronpedia
refuses "format of another ending" "ends in .json" graph "$E" --loss 3 --format neuronpedia -o "$dir/none/x.svg"
refuses "too many paths" "at most 1000" graph "$E" --loss 3 --paths 1001 -o "$dir/none/x.svg"
refuses "two widths" "wanted one of them" graph "$E" --loss 3 --width 3in --columns 1 -o "$dir/none/x.svg"
refuses "no record" "cannot open|No such file" graph "$dir/none/r.safetensors" --loss 3 -o "$dir/none/x.svg"
is "nothing is left behind" empty "$dir/none"

# ---- Vega-Lite
works "a heatmap as Vega-Lite" heatmap "$E" --site share.mlp --layers all -o "$dir/h.vl.json"
json "is JSON" "$dir/h.vl.json"
holds "of version 5" "$dir/h.vl.json" '"\$schema": "https://vega.github.io/schema/vega-lite/v5.json"'
works "a profile as Vega-Lite" profile "$R" -o "$dir/p.vl.json"
json "is JSON, too" "$dir/p.vl.json"
holds "of lines" "$dir/p.vl.json" '"type": "line"'
refuses "a heatmap of nothing" "no tensor" heatmap "$E" --site nowhere -o "$dir/none/h.vl.json"
is "leaves nothing behind" empty "$dir/none"

# ---- diff
cp "$E" "$dir/copy.safetensors"
works "equal records" diff "$E" "$dir/copy.safetensors"
holds "are equal" "$dir/out" "^equal$"
works "another precision" trace "$T" --tokens 1,2,3,4,5 --scores grad_norm,share,edge --losses 1:4 \
    --precision f64 -o "$dir/f64.safetensors"
run diff "$E" "$dir/f64.safetensors"
is "differs" [ $status = 1 ]
holds "in its type" "$dir/out" "^flow.resid_pre.grad_norm +other type +F32 \[3,3,4\] and F64 \[3,3,4\]"
works "is equal within a tolerance" diff "$E" "$dir/f64.safetensors" --tolerance 1e-3
holds "and shows how far apart" "$dir/out" '^edge.value +equal +0 of [0-9]+ +[0-9.e-]+ at \[[0-9]+\], relative'
run diff "$E" "$dir/f64.safetensors" --tolerance 1e-12 --json
is "differs within a smaller one" [ $status = 1 ]
json "as JSON" "$dir/out"
holds "and says so" "$dir/out" '"verdict": "differs".*"equal": false'
run diff "$E" "$R"
is "other tensors differ" [ $status = 1 ]
holds "only in one" "$dir/out" "^edge.index +only in A"
holds "only in the other" "$dir/out" "^flow.z.grad_x_act +only in B"
holds "of another shape" "$dir/out" "^flow.resid_pre.grad_norm +other shape"
works "other tokens" trace "$T" --tokens 1,2,3,4,6 --scores grad_norm,share,edge --losses 1:4 -o "$dir/t.safetensors"
run diff "$E" "$dir/t.safetensors" --tolerance 100
is "differ at any tolerance" [ $status = 1 ]
holds "by their place" "$dir/out" '^tokens +differs +1 of 5 .* at \[4\]'
refuses "one record" "no second RECORD given" diff "$E"
refuses "no such record" "cannot open|No such file" diff "$E" "$dir/none/r.safetensors"
refuses "tolerance" "not a number above 0" diff "$E" "$E" --tolerance -1
works "diff --help" diff --help
holds "has an example" "$dir/out" "^  backflow diff "
finished
