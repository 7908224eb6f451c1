#!/bin/sh
# What is walked back in place of the loss, from the command: divergences from another record; and choices
# that are not there.
. tests/cli/lib.sh

text="--tokens 1,5,3,9,2,7,4"
works "logprobs" trace "$T" $text --precision f64 --logprobs --quiet -o "$dir/ref.safetensors"
run info "$dir/ref.safetensors"
holds "logprobs in the record" "$dir/out" '^logprobs +F64 .*\[6,23\]'
works "kl of another precision" trace "$T" $text --target "kl:$dir/ref.safetensors" --quiet \
    -o "$dir/kl.safetensors"
run info "$dir/kl.safetensors"
holds "kl says what it is" "$dir/out" '^target +kl$'
holds "kl says of whom" "$dir/out" '^reference_model +llama_tied$'
holds "kl says how precise" "$dir/out" '^reference_precision +f64$'
works "kl of another text" trace "$T" --tokens 1,5,8,9,2,7,4 --precision f64 --check \
    --target "kl-text:$dir/ref.safetensors" --quiet -o "$R"
holds "kl of another text is checked" "$dir/out" 'central_difference .* holds'
works "kl summed" trace "$T" --tokens 1,5,8,9,2,7,4 --precision f64 --check --sum --losses 2:6 \
    --target "kl-text:$dir/ref.safetensors" --quiet -o "$R"
rm -f "$R"

# ---- references that do not fit; nothing is written
works "no logprobs" trace "$T" $text --quiet -o "$dir/plain.safetensors"
kl="--target kl:$dir/ref.safetensors"
refuses "kl of another text unasked" 'ref.safetensors: token 2 is 3, in the text 8' \
    trace "$T" --tokens 1,5,8,9,2,7,4 $kl -o "$R"
refuses "kl of another length" 'ref.safetensors: logprobs has 6 positions, the text has 5' \
    trace "$T" --tokens 1,5,3,9,2,7 $kl -o "$R"
refuses "kl of another vocabulary" 'logprobs is of a vocabulary of 23 tokens, the model has 29' \
    trace tests/goldens/llama_biases $text $kl -o "$R"
refuses "kl of a record without" 'plain.safetensors: there is no tensor logprobs' \
    trace "$T" $text --target "kl:$dir/plain.safetensors" -o "$R"
refuses "kl of weights" 'there is no tensor logprobs' \
    trace "$T" $text --target "kl:$T/model.safetensors" -o "$R"
refuses "kl of nothing" 'absent.safetensors' trace "$T" $text --target "kl:$dir/absent.safetensors" -o "$R"
refuses "kl of no path" 'path is wanted after the colon' trace "$T" $text --target kl: -o "$R"
refuses "kl without a colon" 'unknown target "kl"' trace "$T" $text --target kl -o "$R"
head -c 300 "$dir/ref.safetensors" >"$dir/cut.safetensors"
refuses "kl of a broken record" 'cut.safetensors' trace "$T" $text --target "kl:$dir/cut.safetensors" -o "$R"
if command -v python3 >/dev/null; then
    python3 - "$dir/ref.safetensors" "$dir/nan.safetensors" <<'END'
import json, struct, sys
data = bytearray(open(sys.argv[1], "rb").read())
size, = struct.unpack("<Q", data[:8])
at = json.loads(data[8:8 + size])["logprobs"]["data_offsets"][0] + 8 + size
data[at + 16:at + 24] = struct.pack("<d", float("nan"))
open(sys.argv[2], "wb").write(data)
END
    refuses "kl of NaN" 'nan.safetensors: logprobs of position 0, token 2 is -?nan' \
        trace "$T" $text --target "kl:$dir/nan.safetensors" -o "$R"
else skip "kl of NaN" "no python3"; fi

# ---- losses, heads, tokens and records that are not there
refuses "a loss that is not there" '--losses: loss 6 is not there, they go from 0 to 5' \
    trace "$T" $text --losses 6 -o "$R"
refuses "a layer that is not there" '--layers: layer 9 is not there' trace "$T" $text --layers 9 -o "$R"
refuses "a target outside the vocabulary" 'target token 23, the vocabulary has ids 0 to 22' \
    trace "$T" $text --target logit:23 -o "$R"
refuses "a second target outside" 'target token 99' trace "$T" $text --target logit-diff:1,99 -o "$R"
refuses "edges of all losses" 'choose some \(--losses\)' trace "$T" $text --scores edge -o "$R"
many=$(seq -s, 1 400 | sed 's/[0-9][0-9]*/7/g')
refuses "edges of many losses" 'have [0-9]+ edges, at most [0-9]+ are recorded' \
    trace examples/models/kjv-1m --tokens "$many" --scores edge --losses 0:399 -o "$R"
refuses "an answer cut in two" 'only neighbours can be summed' \
    trace "$T" $text --sum --losses 1,3 -o "$R"
refuses "a head that is not there" 'head' heatmap "$dir/plain.safetensors" --site q --layer 0 --head 99 -o "$dir/n.png"
refuses "a loss the record has not" 'loss' trust "$dir/plain.safetensors" "$T" --losses 99
refuses "trust without its model" 'SHA-256' trust "$dir/plain.safetensors" tests/goldens/llama_grouped
refuses "trust of a divergence" 'target "kl" cannot be measured' trust "$dir/kl.safetensors" "$T"
is "nothing was written" test ! -e "$R"

finished
