#!/bin/sh
# progress.sh TEXT COMMAND...: runs the command and shows that something happens: on a terminal, a
# line with the text, the seconds, and the last line that the command has printed. What the command
# has printed appears only if it fails.
text=$1
shift
log=$(mktemp)
drawing=
trap '[ -z "$drawing" ] || kill "$drawing" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT TERM HUP

draw() {
    width=$(stty size 2>/dev/null <&1 | cut -d " " -f 2)
    seconds=0
    while :; do
        line="$text: $seconds s  $(tail -n 1 "$log")"
        printf '\r\033[K%.*s' "$((${width:-80} - 1))" "$line"
        sleep 1
        seconds=$((seconds + 1))
    done
}

if [ -t 1 ]; then
    draw &
    drawing=$!
else
    echo "$text"
fi
"$@" >"$log" 2>&1
code=$?
if [ -n "$drawing" ]; then
    kill "$drawing"
    printf '\r\033[K'
fi
[ "$code" -eq 0 ] || cat "$log"
exit "$code"
