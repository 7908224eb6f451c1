#!/bin/sh
. tests/cli/lib.sh

# ---- help and misuse
works "help" --help
holds "help names every command" "$dir/out" "tokenize"
works "version" --version
holds "version is a number" "$dir/out" '^backflow [0-9]+\.[0-9]+\.[0-9]+$'
for c in report trace heatmap graph info tokenize; do
    works "$c --help" "$c" --help
    holds "$c --help has an example" "$dir/out" "^  backflow $c "
done
refuses "no command" "no command, wanted one of"
refuses "unknown command" 'unknown command "frobnicate"' frobnicate
refuses "unknown first option" 'unknown option "--frobnicate"' --frobnicate
refuses "unknown option" 'trace: unknown option "--frob"' trace "$T" --frob
refuses "missing value" "trace: --text needs a value" trace "$T" --text
refuses "option where a value is wanted" "--text needs a value .*found the option --quiet" trace \
    "$T" --text --quiet
refuses "flag with a value" "--quiet takes no value" trace "$T" --quiet=yes
refuses "option twice" "--threads is given twice" trace "$T" --threads 1 --threads=2
refuses "no model" "trace: no MODEL given" trace --tokens 1,2 -o "$R"
refuses "two models" 'unexpected argument "x"' trace "$T" x --tokens 1,2 -o "$R"
refuses "empty model" "MODEL is empty" trace "" --tokens 1,2 -o "$R"
refuses "no input" "wanted --text, --file or --tokens" trace "$T" -o "$R"
refuses "two inputs" "both given" trace "$T" --tokens 1,2 --text a -o "$R"
refuses "no output" "no -o FILE given" trace "$T" --tokens 1,2
refuses "no site" "no --site given" heatmap "$R" -o x.png
refuses "no loss" "no --loss given" graph "$R" -o x.svg
refuses "top and keep" "both given" graph "$R" --loss 1 --top 3 --keep 0.5 -o x.svg
refuses "keep above 1" "above 1" graph "$R" --loss 1 --keep 1.5 -o x.svg
refuses "control characters are escaped" 'unknown command "\\e\[31mred\\n\."' "$(printf '\033[31mred\n.')" 
for bad in "" " 1" +1 -1 1x 99999999999999999999 0x10 1.5; do
    refuses "threads '$bad'" "--threads: .*not a whole number" trace "$T" --tokens 1,2 \
        --threads="$bad" -o "$R"
done
refuses "threads 0" "--threads: .*not a whole number from 1" trace "$T" --tokens 1,2 --threads=0 \
    -o "$R"
for bad in "" G 4X -1G 1e9G 1.2.3G inf 0 4Gx 99999999999T; do
    refuses "memory '$bad'" "--memory: .*number of bytes" trace "$T" --tokens 1,2 \
        --memory="$bad" -o "$R"
done
for good in 4G 512M 1.5G 4GiB 64m 1000000000; do
    works "memory $good" trace "$T" --tokens 1,2 --memory $good --dry-run
done
for bad in "" "," "1," ",1" "1 2" 1,x 1,-2 1,,2 99999999999999999999; do
    refuses "tokens '$bad'" "--tokens: " trace "$T" --tokens="$bad" -o "$R"
done
for bad in x 3: 1:1 5:2 9 0,9 0:10 -1 1,,2 1:2:3; do
    refuses "losses '$bad'" "--losses: " trace "$T" --tokens 1,2,3,4 --losses="$bad" -o "$R"
done
refuses "layers 3" "--layers: layer 3 is not there, they go from 0 to 2" trace "$T" --tokens 1,2 \
    --layers 3 -o "$R"
refuses "sites" 'unknown site "w"' trace "$T" --tokens 1,2 --sites q,w -o "$R"
refuses "scores" 'unknown score "shares"' trace "$T" --tokens 1,2 --scores shares -o "$R"
refuses "precision" 'unknown precision "f16"' trace "$T" --tokens 1,2 --precision f16 -o "$R"
refuses "edges of all losses" "choose some" trace "$T" --tokens 1,2 --scores edge -o "$R"
refuses "tolerance 0" "not a number above 0" trace "$T" --tokens 1,2 --tolerance 0 -o "$R"
refuses "tolerance 2" "below 1 is wanted" trace "$T" --tokens 1,2 --tolerance 2 -o "$R"
refuses "blocks" "3 blocks of 2 losses" trace "$T" --tokens 1,2,3 --blocks 3 -o "$R"
refuses "sum of strangers" "only neighbours" trace "$T" --tokens 1,2,3,4,5 --losses 0,2 --sum -o "$R"
for bad in x logit-diff logit-diff:1 logit:1,2 loss:1 entropy:1 logit: logprob:-1; do
    refuses "target $bad" "--target: " trace "$T" --tokens 1,2 --target "$bad" -o "$R"
done
refuses "target outside" "target token 1000000" trace "$T" --tokens 1,2 --target logit:1000000 -o "$R"

# ---- bad input
refuses "no such model" "no such folder" trace ./nowhere/x --tokens 1,2 -o "$R"
refuses "no such bundled model" "no bundled model" trace nowhere --tokens 1,2 -o "$R"
refuses "model is a file" "is a file" trace "$T/config.json" --tokens 1,2 -o "$R"
refuses "one token" "1 token, at least 2" trace "$T" --tokens 1 -o "$R"
refuses "token out of the vocabulary" "token 1 is 23, the vocabulary has ids 0 to 22" trace "$T" \
    --tokens 1,23 -o "$R"
refuses "more tokens than positions" "knows 32 positions" trace "$T" -o "$R" \
    --tokens 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
refuses "too little memory" "--memory" trace "$T" --tokens 1,2 --memory 10 -o "$R"
refuses "no tokenizer" "no tokenizer.json" trace "$T" --text ab -o "$R"
refuses "empty text" "--text: the text is empty" trace "$M" --text "" -o "$R"
refuses "one character" "at least 2" trace "$M" --text a -o "$R"
refuses "character without a token" "--text: " trace "$M" --text zz -o "$R"
: >"$dir/empty.txt"
refuses "empty file" "empty.txt: the text is empty" trace "$M" --file "$dir/empty.txt" -o "$R"
refuses "missing file" "gone.txt: cannot open" trace "$M" --file "$dir/gone.txt" -o "$R"
refuses "file is a folder" "cannot read" trace "$M" --file "$dir" -o "$R"
refuses "endless file" "larger than" tokenize "$M" --file /dev/zero
refuses "missing record" "gone: cannot open|gone: " heatmap "$dir/gone" --site q -o "$dir/x.png"
is "nothing was written" [ ! -e "$R" ]

# ---- trace
works "trace" trace "$T" --tokens 1,2,3,4,5,6,7 --check -o "$R"
holds "trace: checks hold" "$dir/out" "^central_difference .* holds "
is "trace: no check fails" sh -c "! grep -q FAILS '$dir/out'"
holds "trace: a summary on standard error" "$dir/err" "6 losses, mean [0-9.]+ nats"
is "trace: nothing else is left" sh -c "! ls -d '$dir'/*backflow-* >/dev/null 2>&1"
works "options before, after, with =" trace --tokens=1,2,3 --precision=f64 \
    -o"$dir/r2.safetensors" --quiet -- "$T"
is "quiet is quiet" [ ! -s "$dir/err" ]
works "trace over an older record" trace "$T" --tokens 1,2,3,4,5,6,7 --quiet -o "$R"
cp "$T/model.safetensors" "$dir/w.safetensors"
refuses "never over weights" "no record of backflow's" trace "$T" --tokens 1,2 -o \
    "$dir/w.safetensors"
is "weights are as they were" cmp -s "$T/model.safetensors" "$dir/w.safetensors"
for target in logit logit:1 logprob:2 logit-diff:1,2 entropy; do
    works "target $target" trace "$T" --tokens 1,2,3 --target $target --check -o "$dir/n.safetensors"
done
works "sum" trace "$T" --tokens 1,2,3,4,5 --losses 1:4 --sum --check -o "$dir/n.safetensors"
works "overview beside losses" trace "$T" --tokens 1,2,3,4,5 --blocks 2 --losses 3 -o "$dir/n.safetensors"
works "edges" trace "$T" --tokens 1,2,3,4,5 --losses 3 --scores share,edge -o "$dir/n.safetensors"
works "tolerance" trace "$T" --tokens 1,2,3,4,5 --tolerance 1e-2 --scores all -o "$dir/n.safetensors"
works "text" trace "$M" --text "the c" --quiet -o "$dir/t.safetensors"
printf 'the c' >"$dir/t.txt"
works "file" trace "$M" --file "$dir/t.txt" --quiet -o "$dir/t2.safetensors"
"$B" trace "$M" --file - --quiet -o "$dir/t3.safetensors" <"$dir/t.txt" 2>"$dir/err"
is "standard input" [ $? = 0 ]
works "dry run" trace "$T" --tokens 1,2,3 --dry-run
holds "dry run: pairs" "$dir/out" "^pairs \(i,j\) +3$"
works "dry run as JSON" trace "$T" --tokens 1,2,3 --dry-run --json
json "dry run: JSON" "$dir/out"
works "trace --check --json" trace "$T" --tokens 1,2,3 --check --json -o "$dir/r2.safetensors"
json "trace --check: JSON" "$dir/out"
works "losses and layers" trace "$T" --tokens 1,2,3,4,5,6 --losses 3:,1,0:2 --layers 1: --sites v,q \
    --scores all --no-attn --quiet -o "$dir/part.safetensors"
works "info of a part" info "$dir/part.safetensors"
holds "losses: 0, 1, 3, 4" "$dir/out" "^losses .* \[4\]"
holds "layers: 1, 2" "$dir/out" "^flow.v.grad_norm .* \[2,1,4,5\]"
is "sites: no z" sh -c "! grep -q '^flow.z' '$dir/out'"
is "no attn" sh -c "! grep -q '^attn' '$dir/out'"

# ---- info
works "info of a record" info "$R"
holds "info: the command" "$dir/out" "^command +backflow trace $T --tokens 1,2,3,4,5,6,7"
works "info of a record as JSON" info "$R" --json
json "info of a record: JSON" "$dir/out"
works "info of a model" info "$T" --sha256
holds "info: heads" "$dir/out" "^heads +H 3 query, G 1 key/value, K 4 wide"
holds "info: SHA-256" "$dir/out" "$(sha256sum "$T/model.safetensors" | cut -d' ' -f1)"
works "info of a model as JSON" info --json "$T"
json "info of a model: JSON" "$dir/out"

# ---- trust and find
works "trust" trust "$R" "$T" --pairs 40 --json --quiet -o "$dir/t.svg"
json "trust: JSON" "$dir/out"
refuses "trust: another model" "other weights" trust "$R" tests/goldens/llama_grouped
refuses "trust: no MODEL" "no MODEL given" trust "$R"
refuses "trust: not a picture" "is no picture" trust "$R" "$T" -o "$dir/n.gif"
refuses "find: no FILE" "FILE" find "$M"
refuses "find: no such file" "$dir/nofile" find "$M" "$dir/nofile"

# ---- tokenize
works "tokenize" tokenize "$M" --text "$(printf 'a<b>\n&"')"
holds "tokenize: newline escaped" "$dir/out" '"\\n"$'
works "tokenize a tokenizer.json" tokenize "$M/tokenizer.json" --text "the"
mkdir "$dir/only" && cp "$M/tokenizer.json" "$dir/only"
works "tokenize a folder with only that" tokenize "$dir/only" --text "the"
works "tokenize --json" tokenize "$M" --text "he </b>" --json
json "tokenize: JSON" "$dir/out"
holds "tokenize: ids and offsets" "$dir/out" \
    '^\{"ids": \[16, 15, 0, 2, 5, 4, 3\], .*"offsets": \[\[0, 1\], '
refuses "tokenize without a tokenizer" "tokenizer.json" tokenize "$T" --text a
refuses "tokenize without a text" "wanted --text or --file" tokenize "$M"
works "tokenize half characters" tokenize "$M" --text "$(printf '\342\200\256')"
is "no raw direction mark" sh -c "! grep -q \"\$(printf '\\342\\200\\256')\" '$dir/out'"

# ---- pictures
for f in png svg pdf; do
    works "heatmap $f" heatmap "$R" --site resid_pre -o "$dir/h.$f"
    is "heatmap $f is not empty" [ -s "$dir/h.$f" ]
done
works "heatmap of a head" heatmap "$R" --site v --layer 1 --head 0 --score grad_x_act --title "" \
    --dpi 72 -o "$dir/h.png"
works "heatmap of attention" heatmap "$R" --site attn --log --palette magma --width 90 -o \
    "$dir/h.svg"
refuses "heatmap: no such site" "flow.nowhere" heatmap "$R" --site nowhere -o "$dir/x.png"
refuses "heatmap: no such layer" "layer 9" heatmap "$R" --site q --layer 9 -o "$dir/x.png"
refuses "heatmap: no such palette" "jet" heatmap "$R" --site q --palette jet -o "$dir/x.png"
refuses "heatmap: ending" "x.gif" heatmap "$R" --site q -o "$dir/x.gif"
refuses "heatmap of no record" "" heatmap "$T/config.json" --site q -o "$dir/x.png"
for f in svg pdf png dot; do
    works "graph $f" graph "$R" --loss 3 -o "$dir/g.$f"
    is "graph $f is not empty" [ -s "$dir/g.$f" ]
done
works "graph --top" graph "$R" --loss 3 --top 4 -o "$dir/g.dot"
refuses "graph: no such loss" "99" graph "$R" --loss 99 -o "$dir/x.svg"
is "no picture of a failure" sh -c "! ls '$dir'/x.* >/dev/null 2>&1"

# ---- output that cannot be written
refuses "into a missing folder" "cannot write: No such file" trace "$T" --tokens 1,2 -o \
    "$dir/no/where.safetensors"
refuses "over a folder" "folder stands there" trace "$T" --tokens 1,2 -o "$dir"
refuses "over a device" "not a plain file" trace "$T" --tokens 1,2 -o /dev/full
for c in "info $T" "tokenize $M --text the" "trace $T --tokens 1,2 --dry-run" --help --version; do
    "$B" $c >/dev/full 2>"$dir/err"
    is "full standard output: $c" [ $? = 2 ]
    holds "full standard output is said: $c" "$dir/err" "standard output: cannot write: No space"
done
"$B" info "$T" >&- 2>"$dir/err"
is "closed standard output" [ $? = 2 ]
(trap '' PIPE; "$B" --help 2>"$dir/err"; echo $? >"$dir/code") | :
is "broken pipe ends in words or not at all" sh -c "grep -qE '^(0|2)$' '$dir/code'"
mkdir "$dir/limit"
(ulimit -f 8 && "$B" trace "$T" --tokens 1,2,3,4,5,6,7,8,9 --precision f64 -o \
    "$dir/limit/r.safetensors") >"$dir/out" 2>"$dir/err"
is "file size limit: trace" [ $? = 2 ]
(ulimit -f 8; "$B" heatmap "$R" --site q -o "$dir/limit/h.png") >"$dir/out" 2>"$dir/err"
is "file size limit: heatmap" [ $? = 2 ]
(ulimit -f 16; "$B" report "$T" --tokens 1,2,3,4 -o "$dir/limit/report") >"$dir/out" 2>"$dir/err"
is "file size limit: report" [ $? = 2 ]
is "file size limit: nothing is left" empty "$dir/limit"
mkdir "$dir/ro" "$dir/disk"
if mount -t tmpfs -o size=8k none "$dir/disk" 2>/dev/null; then
    mounted="$dir/disk"
    refuses "full disk: trace" "No space left" trace "$T" --tokens 1,2,3,4,5,6,7,8,9 --precision \
        f64 -o "$dir/disk/r.safetensors"
    refuses "full disk: heatmap" "No space|cannot write|error" heatmap "$R" --site q -o \
        "$dir/disk/h.png"
    refuses "full disk: svg" "No space|cannot write|error" heatmap "$R" --site q -o \
        "$dir/disk/h.svg"
    refuses "full disk: graph" "No space|cannot write|error" graph "$R" --loss 3 -o \
        "$dir/disk/g.png"
    refuses "full disk: report" "No space|cannot write|error" report "$T" --tokens 1,2,3,4 -o \
        "$dir/disk/report"
    is "full disk: nothing is left" empty "$dir/disk"
else
    skip "full disk" "no right to mount one"
fi
if mount -t tmpfs -o ro none "$dir/ro" 2>/dev/null; then mounted="$mounted $dir/ro"; else chmod a-w "$dir/ro"; fi
if touch "$dir/ro/x" 2>/dev/null; then
    skip "read-only folder" "it can be written all the same"
else
    refuses "read-only folder: trace" "cannot write" trace "$T" --tokens 1,2 -o \
        "$dir/ro/r.safetensors"
    refuses "read-only folder: heatmap" "cannot write" heatmap "$R" --site q -o "$dir/ro/h.png"
    refuses "read-only folder: report" "cannot make" report "$T" --tokens 1,2 -o "$dir/ro/report"
fi

# ---- a real model: stops and checks
for m in examples/models/kjv-1m ../shared/models/stories260K; do
    if [ -f "$m/config.json" ]; then break; fi
    m=
done
if [ -z "$m" ]; then
    skip "a trained model" "neither examples/models/kjv-1m nor ../shared/models/stories260K is here"
else
    ids=$(awk 'BEGIN { for (k = 0; k < 256; k++) printf "%s%d", k ? "," : "", (k * 37 + 11) % 200 + 20 }')
    mkdir "$dir/stop"
    for s in INT TERM HUP; do
        case $s,$(grep SigIgn /proc/$$/status 2>/dev/null) in
        HUP,*[13579bdf]) # SIGHUP's is the lowest bit
            skip "SIGHUP" "it is ignored here, as under nohup"
            continue
            ;;
        esac
        for c in "trace $m -o $dir/stop/r.safetensors" "report $m -o $dir/stop/report"; do
            "$B" ${c%% -o*} --tokens "$ids" --precision f64 --threads 1 --quiet -o "${c##* -o }" \
                2>"$dir/err" &
            pid=$!
            sleep 0.3
            kill -s "$s" $pid 2>/dev/null
            wait $pid
            code=$?
            # A shell without job control starts its jobs with SIGINT ignored, and ignored it stays.
            if [ "$s" = INT ] && [ $code = 0 ]; then
                rm -rf "$dir"/stop/*
                skip "SIGINT: ${c%% *}" "the shell ignores it for its jobs"
                continue
            fi
            is "SIG$s: ${c%% *} ends with 130" [ $code = 130 ]
            is "SIG$s: ${c%% *} leaves nothing" empty "$dir/stop"
        done
    done
    if timeout --help 2>/dev/null | grep -q preserve-status; then
        timeout --foreground --preserve-status -s INT 0.3 "$B" trace "$m" --tokens "$ids" --precision f64 --threads 1 \
            -o "$dir/stop/r.safetensors" 2>"$dir/err"
        is "SIGINT ends with 130" [ $? = 130 ]
        holds "SIGINT says so" "$dir/err" "interrupted"
        is "SIGINT leaves nothing" empty "$dir/stop"
    else skip "SIGINT" "no timeout --preserve-status"; fi
    works "checks hold on $m" trace "$m" --tokens "$(echo "$ids" | cut -d, -f1-24)" --check -o "$dir/real.safetensors"
    if [ -f "$m/tokenizer.json" ]; then
        works "report on $m" report "$m" --text "In the beginning there was a little red ball." \
            -o "$dir/real"
        is "report on $m: page" [ -s "$dir/real/index.html" ]
    fi
fi
finished
