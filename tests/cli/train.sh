#!/bin/sh
. tests/cli/lib.sh

# ---- help, misuse, plans
works "train --help" train --help
holds "train --help has an example" "$dir/out" '^  backflow train '
refuses "no config" "train: no CONFIG.json given" train -o "$dir/x"
refuses "no folder" "no -o FOLDER given" train examples/train/copy.json
refuses "no such config" "nowhere.json" train nowhere.json -o "$dir/x"
refuses "a config that is none" "field \"version\" is unknown" train tests/data/tokenizer_bert.json -o "$dir/x"
refuses "seed" "--seed: .*not a whole number" train examples/train/copy.json --seed x -o "$dir/x"
refuses "no steps" "--steps: .*not a whole number from 1" train examples/train/copy.json --steps 0 -o "$dir/x"
for c in examples/train/*.json; do
    if grep -q kjv.txt "$c" && [ ! -f build/kjv.txt ]; then
        skip "$c" "no build/kjv.txt (make kjv-text)"
        continue
    fi
    works "$c --dry-run" train "$c" --dry-run
    holds "$c has parameters" "$dir/out" '^parameters +[1-9]'
done
works "plan as JSON" train examples/train/copy.json --dry-run --json
json "the plan is JSON" "$dir/out"
is "misuse writes nothing" [ ! -e "$dir/x" ]

# ---- a small training
cat >"$dir/c.json" <<'END'
{"model": {"family": "llama", "layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "mlp": 24},
 "data": {"task": {"kind": "copy", "symbols": 5, "most": 6}},
 "context": 20, "batch": 2, "steps": 40, "checkpoint": 7, "measure": 10, "measure_batches": 2}
END
works "train" train "$dir/c.json" -o "$dir/a"
for f in config.json model.safetensors tokenizer.json tokenizer_config.json checkpoint.safetensors \
    log.jsonl loss.svg; do
    is "train writes $f" [ -s "$dir/a/$f" ]
done
is "a line a step" [ "$(wc -l <"$dir/a/log.jsonl")" = 40 ]
json "tokenizer_config.json is JSON" "$dir/a/tokenizer_config.json"
holds "the tokens that begin and end a text" "$dir/a/tokenizer_config.json" '"bos_token": "'
holds "steps and held-out loss are told" "$dir/err" '40 steps in .*, loss [0-9.]+, held out [0-9.]+'
works "the model traces" trace "$dir/a" --text '<s> a b c d | a b c d' --check -o "$dir/t.safetensors"
works "info" info "$dir/a"
works "two threads" train "$dir/c.json" -o "$dir/b" --threads 2 --quiet
is "quiet says nothing" [ ! -s "$dir/err" ]
works "one thread" train "$dir/c.json" -o "$dir/b1" --threads 1 --quiet --json
json "the result is JSON" "$dir/out"
is "threads change no bit" cmp -s "$dir/b/model.safetensors" "$dir/b1/model.safetensors"
is "runs are alike" cmp -s "$dir/a/model.safetensors" "$dir/b/model.safetensors"
works "another seed" train "$dir/c.json" -o "$dir/s" --seed 2 --quiet
is "another seed gives another model" sh -c "! cmp -s '$dir/a/model.safetensors' '$dir/s/model.safetensors'"

# ---- mixed precision
sed 's/"steps"/"precision": "bf16", "steps"/' "$dir/c.json" >"$dir/half.json"
run train "$dir/half.json" -o "$dir/h" --threads 1 --quiet
if [ $status != 0 ]; then
    for more in "-o $dir/h" --dry-run; do
        refuses "bf16 where there is none, $more" 'field "precision" is bf16, .* no bfloat16 products .*wanted f32' \
            train "$dir/half.json" $more
    done
    is "nothing is left behind" [ ! -e "$dir/h" ]
    skip "bf16" "no avx512_bf16 on this processor"
else
    pass "bf16"
    works "bf16 in two threads" train "$dir/half.json" -o "$dir/h2" --threads 2 --quiet
    is "threads change no bit of it" cmp -s "$dir/h/checkpoint.safetensors" "$dir/h2/checkpoint.safetensors"
    is "it is not f32" sh -c "! cmp -s '$dir/h/model.safetensors' '$dir/a/model.safetensors'"
    refuses "resume in another precision" "\(precision differs\)" train "$dir/half.json" -o "$dir/a" --resume
fi

# ---- compressive memory: its gates are weights
cat >"$dir/m.json" <<'END'
{"model": {"family": "gpt2", "layers": 2, "width": 16, "heads": 2, "positions": 40},
 "data": {"task": {"kind": "copy", "symbols": 5, "most": 6}},
 "mask": {"segment": 6, "compressive": 0.5, "gate": "learnt", "update": "delta"},
 "context": 40, "batch": 2, "steps": 30, "measure": 0}
END
works "train with a memory" train "$dir/m.json" -o "$dir/m" --threads 2 --quiet
holds "config.json says how it is read and written" "$dir/m/config.json" '"gate": "learnt", "update": "delta"'
is "its gates are saved" grep -aq '"backflow.layers.1.memory_gate":' "$dir/m/model.safetensors"
works "it traces" trace "$dir/m" --text '<s> a b c d | a b c d <s> b b c | b' --check -o "$dir/t.safetensors"
works "one thread, with a memory" train "$dir/m.json" -o "$dir/m1" --threads 1 --quiet
is "threads change no bit of it" cmp -s "$dir/m/model.safetensors" "$dir/m1/model.safetensors"
for words in '"gate": "learnt"/"gate": "fixed"' '"update": "delta"/"update": "linear"'; do
    sed "s/$words/" "$dir/m.json" >"$dir/other.json"
    refuses "resume with $words" "another training \(mask\." train "$dir/other.json" -o "$dir/m" --resume
done
sed 's/"gate": "learnt"/"gate": "open"/' "$dir/m.json" >"$dir/other.json"
refuses "another gate" 'field "mask.gate" is the string "open", wanted one of fixed.learnt' train "$dir/other.json" -o "$dir/x"
sed 's/"compressive": 0.5, //' "$dir/m.json" >"$dir/other.json"
refuses "a gate of nothing" '"gate" or "update" without "compressive"' train "$dir/other.json" -o "$dir/x"
sed 's/"gpt2"/"llama"/' "$dir/m.json" >"$dir/other.json"
refuses "rotary positions" 'found "compressive" with rotary positions' train "$dir/other.json" -o "$dir/x"

# ---- dropout
sed 's/"context"/"dropout": {"embedding": 0, "attention": 0, "residual": 0}, "context"/' "$dir/c.json" >"$dir/d0.json"
works "no dropout, in words" train "$dir/d0.json" -o "$dir/d0" --quiet
is "no dropout changes no bit" cmp -s "$dir/a/model.safetensors" "$dir/d0/model.safetensors"
sed 's/"context"/"dropout": {"attention": 0.1, "residual": 0.1}, "context"/' "$dir/c.json" >"$dir/d.json"
works "dropout" train "$dir/d.json" -o "$dir/d" --threads 1 --quiet
works "dropout on two threads" train "$dir/d.json" -o "$dir/d2" --threads 2 --quiet
is "with dropout threads change no bit" cmp -s "$dir/d/model.safetensors" "$dir/d2/model.safetensors"
is "dropout changes what is learnt" sh -c "! cmp -s '$dir/a/model.safetensors' '$dir/d/model.safetensors'"
holds "config.json says it as transformers does" "$dir/d/config.json" '"attention_dropout": 0\.1,'
works "a model that learnt with dropout traces" trace "$dir/d" --text '<s> a b c d | a b c d' -o "$dir/t.safetensors"
refuses "resume with dropout" "\(dropout differs\)" train "$dir/d.json" -o "$dir/a" --resume

# ---- folders that are not ours, or another training's
before=$(cksum "$dir"/a/*)
refuses "the folder is not empty" "wanted an empty folder" train "$dir/c.json" -o "$dir/a"
refuses "resume with another seed" "another training \(seed differs\)" train "$dir/c.json" -o "$dir/a" --resume \
    --seed 3
refuses "resume with other steps" "another training \(steps differs\)" train "$dir/c.json" -o "$dir/a" --resume \
    --steps 50
sed 's/"width": 16/"width": 32/' "$dir/c.json" >"$dir/w.json"
refuses "resume with another model" "\(model.width differs\)" train "$dir/w.json" -o "$dir/a" --resume
is "refused runs change nothing" [ "$before" = "$(cksum "$dir"/a/*)" ]
works "resume a run that is done" train "$dir/c.json" -o "$dir/a" --resume --quiet
is "it stays as it is" cmp -s "$dir/a/model.safetensors" "$dir/b/model.safetensors"
mkdir "$dir/foreign"
echo '{}' >"$dir/foreign/config.json"
refuses "resume in a foreign folder" "no checkpoint.safetensors" train "$dir/c.json" -o "$dir/foreign" --resume
is "a foreign folder stays as it is" [ "$(cat "$dir/foreign/config.json")" = '{}' ]
works "resume where nothing is begins" train "$dir/c.json" -o "$dir/new" --resume --quiet
is "and ends alike" cmp -s "$dir/new/model.safetensors" "$dir/b/model.safetensors"
cp -r "$dir/a" "$dir/broken"
head -c 1000 "$dir/a/checkpoint.safetensors" >"$dir/broken/checkpoint.safetensors"
refuses "a broken checkpoint" "checkpoint.safetensors" train "$dir/c.json" -o "$dir/broken" --resume

# ---- interrupts
sed 's/"steps": 40/"steps": 3000/; s/"measure": 10/"measure": 0/' "$dir/c.json" >"$dir/long.json"
works "a longer run" train "$dir/long.json" -o "$dir/whole" --quiet
interrupt() { # signal: stop a run when it has begun to write, and go on; $code
    rm -rf "$dir/cut"
    "$B" train "$dir/long.json" -o "$dir/cut" >"$dir/out" 2>"$dir/err" </dev/null &
    pid=$!
    n=0
    while [ "$(cat "$dir/cut/log.jsonl" 2>/dev/null | wc -l)" -lt 10 ] && [ $n -lt 500 ]; do
        sleep 0.02
        n=$((n + 1))
    done
    kill -s "$1" $pid 2>/dev/null
    wait $pid 2>/dev/null
    code=$?
}
for s in TERM HUP; do
    interrupt $s
    if [ $code = 0 ]; then
        skip "SIG$s" "the run had ended before"
        continue
    fi
    is "SIG$s ends with 130" [ $code = 130 ]
    holds "SIG$s: how to go on" "$dir/err" 'interrupted after step [0-9]+ of 3000, saved: go on with --resume'
    is "SIG$s: not all steps are done" [ "$(wc -l <"$dir/cut/log.jsonl")" -lt 3000 ]
    works "SIG$s: resume" train "$dir/long.json" -o "$dir/cut" --resume --quiet
    is "SIG$s: the same bits" cmp -s "$dir/cut/model.safetensors" "$dir/whole/model.safetensors"
    is "SIG$s: a line a step" [ "$(wc -l <"$dir/cut/log.jsonl")" = 3000 ]
done
interrupt KILL
works "SIGKILL: resume" train "$dir/long.json" -o "$dir/cut" --resume --quiet
is "SIGKILL: the same bits" cmp -s "$dir/cut/model.safetensors" "$dir/whole/model.safetensors"

# ---- losses without a number, disks without room
cp -r "$dir/b" "$dir/huge"
# the final norm's 16 weights, behind an embedding of 7 x 16
at=$((8 + $(od -An -t u8 -N 8 "$dir/huge/model.safetensors") + 7 * 16 * 4))
n=0
while [ $n -lt 16 ]; do printf '\377\377\177\177'; n=$((n + 1)); done |
    dd of="$dir/huge/model.safetensors" bs=1 seek=$at conv=notrunc 2>/dev/null
sed 's/"context"/"start": "huge", "context"/' "$dir/c.json" >"$dir/nan.json"
refuses "a loss that is no number: step and tensor" "step 0|step 1" train "$dir/nan.json" -o "$dir/nan" --quiet
printf 'too short' >"$dir/short.txt"
sed 's/"data": {.*},$/"data": {"text": ["short.txt"], "vocabulary": 256},/' "$dir/c.json" >"$dir/short.json"
refuses "data too short" "9 tokens to train on, wanted at least 21" train "$dir/short.json" -o "$dir/x"
mkdir "$dir/disk"
if mount -t tmpfs -o size=64k none "$dir/disk" 2>/dev/null; then
    mounted="$dir/disk"
    refuses "full disk" "No space left" train "$dir/c.json" -o "$dir/disk/m" --quiet
    umount "$dir/disk" && mounted=
else
    skip "full disk" "no right to mount one"
fi
finished
