#!/bin/sh
# trace --show and info --show: colours where they are asked for, and no byte of a token's raw.
. tests/cli/lib.sh
esc=$(printf '\033')
unset NO_COLOR CLICOLOR_FORCE COLORTERM COLUMNS

works "a first look needs no file" trace "$M" --text "hello world" --show
holds "it has the matrix" "$dir/out" "flow.resid_pre.grad_norm"
holds "and the sentence" "$dir/out" "^what each token received"
is "no colours into a pipe" [ "$(grep -c "$esc" "$dir/out")" = 0 ]
cp "$dir/out" "$dir/plain"
works "colours by demand" trace "$M" --text "hello world" --show --color always
holds "256 of them" "$dir/out" "$esc\[38;5;"
COLORTERM=truecolor; export COLORTERM
works "more where the terminal can" trace "$M" --text "hello world" --show --color=always
holds "24 bits" "$dir/out" "$esc\[38;2;"
CLICOLOR_FORCE=1; export CLICOLOR_FORCE
works "CLICOLOR_FORCE" trace "$M" --text "hello world" --show
holds "forces them" "$dir/out" "$esc\["
works "never" trace "$M" --text "hello world" --show --color never
is "is stronger" cmp -s "$dir/out" "$dir/plain"
NO_COLOR=1; export NO_COLOR
works "NO_COLOR" trace "$M" --text "hello world" --show
is "is obeyed" cmp -s "$dir/out" "$dir/plain"
works "but not against --color always" trace "$M" --text "hello world" --show --color always
holds "which has colours" "$dir/out" "$esc\["
unset NO_COLOR CLICOLOR_FORCE COLORTERM

works "with a record" trace "$M" --text "hello world" --show -o "$R"
is "shows the same" cmp -s "$dir/out" "$dir/plain"
works "info --show" info "$R" --show
is "shows it again" cmp -s "$dir/out" "$dir/plain"
COLUMNS=30; export COLUMNS
works "a narrow terminal" info "$R" --show --color always
is "is not overrun" [ "$(sed -n '3,7p' "$dir/out" | sed "s/$esc\[[0-9;]*m//g" | LC_ALL=C.UTF-8 wc -L)" -le 30 ]
unset COLUMNS

text=$(printf 'a<b>\n\342\200\256\033[2J')
run trace "$M" --text "$text" --show --color always
if [ $status = 0 ]; then
    is "hostile tokens move nothing" [ "$(sed "s/$esc\[[0-9;]*m//g" "$dir/out" | grep -c "$esc")" = 0 ]
else # a byte that this tokenizer does not know
    run trace "$M" --text "$(printf 'a<b>\n"b')" --show --color always
    is "hostile tokens move nothing" [ "$(sed "s/$esc\[[0-9;]*m//g" "$dir/out" | grep -c "$esc")" = 0 ]
fi
if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    TERM=xterm script -qec "'$B' info '$R' --show" /dev/null >"$dir/tty" 2>/dev/null </dev/null
    holds "a terminal gets colours" "$dir/tty" "$esc\[38;5;"
    TERM=dumb script -qec "'$B' info '$R' --show" /dev/null >"$dir/tty" 2>/dev/null </dev/null
    is "a dumb one does not" [ "$(grep -c "$esc" "$dir/tty")" = 0 ]
else skip "a terminal" "script is not there, or finds no pseudo-terminal"; fi

refuses "neither file nor --show" "no -o FILE given" trace "$M" --text hello
refuses "show and JSON" "wanted one of them" trace "$M" --text hello --show --json
refuses "show of a model" "--show needs a RECORD" info "$M" --show
refuses "color" 'unknown, wanted auto, always or never' info "$R" --show --color sometimes
finished
