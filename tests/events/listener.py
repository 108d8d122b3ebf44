"""An event listener as it is written for supervisor: keeps what it is told in a file, a JSON object a line.

The first event of a type that stands in WANT_AGAIN is answered with FAIL; at one of a type in DIE_AT it dies, once.
"""
import json
import os
import sys

from supervisor import childutils

again = os.environ.get("WANT_AGAIN", "").split(",")
die_at = os.environ.get("DIE_AT", "")
mark = sys.argv[1] + ".died"
while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    told, rest = childutils.eventdata(payload + "\n")
    with open(sys.argv[1], "a") as out:
        out.write(json.dumps({"headers": headers, "payload": told, "rest": rest}) + "\n")
    if headers["eventname"] == die_at and not os.path.exists(mark):
        open(mark, "w").close()
        sys.exit(7)
    if headers["eventname"] in again:
        again.remove(headers["eventname"])
        childutils.listener.fail(sys.stdout)
    else:
        childutils.listener.ok(sys.stdout)
