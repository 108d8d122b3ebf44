#!/bin/sh
# A worker that notes the signals it gets: traps.sh FILE [SIGNAL:ignore | SIGNAL:leave | child]...
# `child` starts another of its kind that notes and leaves at TERM.
notes=$1
shift
for what; do
    signal=${what%%:*}
    case $what in
    *:ignore) trap "echo got $signal \$\$ >>$notes" "$signal" ;;
    *:leave) trap "echo got $signal \$\$ >>$notes; exit 0" "$signal" ;;
    child) "$0" "$notes.child" TERM:leave & ;;
    esac
done
sleep 1000 &
sleeping=$!
echo "ready $$" >>"$notes"
while kill -0 "$sleeping" 2>/dev/null || [ "$1" = TERM:ignore ]; do wait; done
