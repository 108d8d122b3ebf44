#!/bin/sh
# A worker that writes what it sees: look.sh DIRECTORY LABEL [ARGUMENT...]
# The file appears whole (by a rename), under LABEL.PID.
# What is read of /proc is this shell's own: it stays in place until the worker is ready.
into=$1 label=$2
shift 2
ends() { for d in 0 1 2; do printf 'end %s %s\n' "$d" "$(readlink "/proc/$$/fd/$d")"; done; }
ends=$(ends)
# The limits first: under them nothing more may be possible.
limits=$(cat /proc/$$/limits)
{
    for word; do printf 'arg %s\n' "$word"; done
    printf 'cwd %s\numask %s\n' "$(pwd -P)" "$(umask)"
    printf '%s\n' "$ends"
    tr '\0' '\n' <"/proc/$$/environ" | sed 's/^/env /'
    tr '\0' '\n' <"/proc/$$/cmdline" | sed 's/^/word /'
    sed 's/^/status /' "/proc/$$/status"
    printf '%s\n' "$limits" | sed 's/^/limit /'
    printf 'stat '
    cat "/proc/$$/stat"
} >"$into/.$label.$$"
mv "$into/.$label.$$" "$into/$label.$$"
exec sleep 1000
