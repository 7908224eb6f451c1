#!/bin/sh
# kjv.sh -- the King James Bible, one chapter a line: its verses joined by spaces, without numbers.
# Printed by `bible` (Debian: bible-kjv, bible-kjv-text).  sh tools/kjv.sh >kjv.txt
set -e
command -v bible >/dev/null || { echo "kjv.sh: no program bible: apt-get install bible-kjv" >&2; exit 1; }
bible -f gen1:1-rev22:21 | awk '
    { chapter = $1; sub(/:[0-9]+$/, "", chapter)
      verse = substr($0, length($1) + 2); gsub(/^[ \t]+|[ \t]+$/, "", verse) }
    chapter != last { if (NR > 1) print line; line = verse; last = chapter; next }
    { line = line " " verse }
    END { print line }'
