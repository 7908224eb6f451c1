#!/bin/sh
# bfloat16, and what a record says of its error.
. tests/cli/lib.sh

kjv=$top/examples/models/kjv-1m
tokens=$(seq -s, 1 70)
R=$dir/r.safetensors

run trace "$kjv" --tokens 1,2 --precision bf16 -o "$R"
if [ $status != 0 ]; then
    rm -f "$R"
    refuses "bf16 where there is none" "no bfloat16 products .*--precision f32" trace "$kjv" --tokens 1,2 \
        --precision bf16 -o "$R"
    is "nothing is left behind" [ ! -e "$R" ]
    skip "bf16" "no avx512_bf16 on this processor"
    finished
    exit
fi
works "bf16" trace "$kjv" --tokens "$tokens" --precision bf16 -o "$R"
holds "its error is said" "$dir/err" "^backflow: bf16 error 0\.[0-9.e-]+: .* against f32, of 1 loss \(34\)$"
works "info of it" info "$R"
holds "and is in the record" "$dir/out" "^bf16_error +0\.[0-9.e-]+: .* of 1 loss \(34\)$"
works "quietly" trace "$kjv" --tokens "$tokens" --precision bf16 --quiet -o "$R"
is "says nothing" [ ! -s "$dir/err" ]
works "a few losses" trace "$kjv" --tokens "$tokens" --losses 60:65 --precision bf16 -o "$R"
holds "are not measured" "$dir/err" "bf16 error not measured: .*--check"
works "but by a check" trace "$kjv" --tokens "$tokens" --losses 60:65 --check --precision bf16 -o "$R"
holds "they are" "$dir/err" "bf16 error 0\.[0-9.e-]+: .* of 1 loss \(62\)$"
works "an overview" trace "$kjv" --tokens "$tokens" --blocks 4 --precision bf16 -o "$R"
holds "has one, too" "$dir/err" "bf16 error 0\.[0-9.e-]+: .* of 1 loss \(34\)$"
works "f32" trace "$kjv" --tokens "$tokens" -o "$R"
works "info of that" info "$R"
is "says nothing of bf16" [ "$(grep -c bf16 "$dir/out")" = 0 ]
finished
