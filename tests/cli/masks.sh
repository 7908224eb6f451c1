#!/bin/sh
# Masked tokens, and cuts of the gradient.
. tests/cli/lib.sh

enc=$top/tests/goldens/gpt2_encoder
seg=$top/tests/goldens/llama_segments
cut=$top/tests/goldens/llama_detached
tokens=22,3,4,5,6,7,1,2,9,10,0
R=$dir/r.safetensors

works "masked tokens" trace "$enc" --tokens $tokens --mask 1,4:6,9 --check --quiet -o "$R"
holds "the checks hold" "$dir/out" "central_difference .* holds"
works "info of them" info "$R"
holds "the record says how it reads" "$dir/out" "^mask +bidirectional"
holds "and what was masked" "$dir/out" "^masked +I64 .*\[4\]"
holds "with one token a position" "$dir/out" "^tokens +I64 .*\[11\]"
works "a picture of them" heatmap "$R" --site resid_pre --score grad_norm -o "$dir/m.png"
works "some of them" trace "$enc" --tokens $tokens --mask 1,4:6,9 --losses 4,9 --quiet -o "$R"
refuses "trust" 'mask is "bidirectional"' trust "$R" "$enc"
works "both ways without masked tokens" trace "$enc" --tokens $tokens --check --quiet -o "$R"

rm -f "$R"
refuses "a position that is not there" "--mask: position 11 is not there" trace "$enc" --tokens $tokens \
    --mask 1,11 -o "$R"
refuses "a loss of a token that was read" "loss 2 .* not masked" trace "$enc" --tokens $tokens \
    --mask 1,4 --losses 2 -o "$R"
refuses "masked tokens and blocks" "overview" trace "$enc" --tokens $tokens --mask 1,4 --blocks 2 -o "$R"
refuses "no mask token" "names no mask token" trace "$seg" --tokens 1,2,3 --mask 1 -o "$R"

works "detached by the query" trace "$seg" --tokens 1,2,3,4,5,6,7,8,9 --detach memory --check --quiet \
    -o "$dir/d.safetensors"
works "info of it" info "$dir/d.safetensors"
holds "the record says so" "$dir/out" "^detach +memory"
holds "and which masks" "$dir/out" "^mask +segment 4, memory 3"
refuses "trust of a cut" 'detach is "memory"' trust "$dir/d.safetensors" "$seg"
works "not detached where the model is" trace "$cut" --tokens 1,2,3,4,5,6,7,8,9 --detach none --quiet \
    -o "$dir/n.safetensors"
works "which trust can judge" trust "$dir/n.safetensors" "$cut" --pairs 60
works "myopic" trace "$seg" --tokens 1,2,3,4,5,6 --detach myopic --check --quiet -o "$dir/y.safetensors"

works "compressive memory" trace "$top/tests/goldens/gpt2_compressive" --tokens 1,2,3,4,5,6,7,8,9,10 --check \
    --scores all,edge --losses 7,8 --quiet -o "$dir/i.safetensors"
works "detached" trace "$top/tests/goldens/gpt2_compressive" --tokens 1,2,3,4,5,6,7,8,9,10 --check \
    --detach memory --quiet -o "$dir/i.safetensors"
delta=$top/tests/goldens/gpt2_compressive_delta
works "delta rule and learnt gates" trace "$delta" --tokens 1,2,3,4,5,6,7,8,9,10 --check --scores all,edge \
    --losses 7,8 --quiet -o "$dir/e.safetensors"
works "info of it" info "$dir/e.safetensors"
holds "the record says how it stores" "$dir/out" "^mask +segment 3, compressive 0.4 at first, delta; segment 4, compressive 0.7, delta"
refuses "trust of a memory" 'mask is "segment 3, compressive' trust "$dir/e.safetensors" "$delta"
works "delta rule, detached" trace "$delta" --tokens 1,2,3,4,5,6,7,8,9,10 --check --detach memory --quiet \
    -o "$dir/e.safetensors"
refuses "another cut" "--detach: found \"all\", wanted none, memory or myopic" trace "$seg" --tokens 1,2,3 \
    --detach all -o "$R"
refuses "no memory" "no layer of the model has segments" trace "$enc" --tokens 1,2,3 --detach memory -o "$R"
refuses "myopic and bidirectional" "says nothing of a bidirectional model" trace "$enc" --tokens 1,2,3 \
    --detach myopic -o "$R"
is "nothing is left of what was refused" [ ! -e "$R" ]
finished
