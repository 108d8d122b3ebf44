"""Runs a program on a terminal of its own for the tests.

A JSON object comes in on stdin: "argv", "environ", "steps" (pairs of a pattern to wait for and the keys to press
then) and "deadline" in seconds. Out goes what the terminal showed, and the exit code or what went wrong.
"""
import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import time

job = json.load(sys.stdin)
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(job["environ"])
    os.execv(job["argv"][0], job["argv"])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
end = time.monotonic() + job["deadline"]
shown = b""


def read():
    """More of what is shown; false at the end."""
    global shown
    if select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
        try:
            more = os.read(terminal, 65536)
        except OSError:
            return False
        shown += more
        return bool(more)
    return False


problem, seen = None, 0
for pattern, keys in job["steps"]:
    while True:
        match = re.compile(pattern.encode(), re.S).search(shown, seen)
        if match:
            seen = match.end()
            break
        if not read():
            problem = "never shown: %s" % pattern
            break
    if problem:
        break
    os.write(terminal, keys.encode())
while not problem and read():
    pass
if problem or time.monotonic() > end:
    os.kill(pid, 9)
_, status = os.waitpid(pid, 0)
json.dump({"shown": shown.decode("utf-8", "replace"), "problem": problem,
           "code": os.waitstatus_to_exitcode(status)}, sys.stdout)
