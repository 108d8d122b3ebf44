"""Runs a program on a pseudo-terminal for the tests.

Usage: terminal.py ROWS COLUMNS PROGRAM ARG ...

Lines of JSON come in: {"keys": TEXT} types, {"size": [ROWS, COLUMNS]} resizes, {"signal": NUMBER} signals. Lines of JSON
go out: {"pid": N} first, {"text": TEXT} for what the program writes, {"status": N} when it has ended (negative for a
signal), {"stopped": N} when it is stopped. The end of the input hangs up.
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios


def tell(**message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def resize(rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


gate = os.pipe()
child, terminal = pty.fork()
if child == 0:
    os.close(gate[1])
    os.read(gate[0], 1)  # until the size is set
    os.close(gate[0])
    # whoever started the tests may have ignored it (nohup, a shell's &)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.execvp(sys.argv[3], sys.argv[3:])
os.close(gate[0])
resize(int(sys.argv[1]), int(sys.argv[2]))
os.close(gate[1])
tell(pid=child)
open_ends, line = [terminal, 0], b""
while True:
    ready, _, _ = select.select(open_ends, [], [], 0.05)
    if terminal in ready:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            data = b""
        if data:
            tell(text=data.decode("utf-8", "replace"))
        else:
            open_ends.remove(terminal)
    if 0 in ready:
        data = os.read(0, 65536)
        if not data:
            os.kill(child, signal.SIGKILL)
            open_ends.remove(0)
        line += data
        while b"\n" in line:
            first, line = line.split(b"\n", 1)
            message = json.loads(first)
            if "keys" in message:
                os.write(terminal, message["keys"].encode())
            if "size" in message:
                resize(*message["size"])
            if "signal" in message:
                os.kill(child, message["signal"])
    pid, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
    if pid and os.WIFSTOPPED(status):
        tell(stopped=os.WSTOPSIG(status))
    elif pid:
        while terminal in open_ends and select.select([terminal], [], [], 0)[0]:
            try:
                tell(text=os.read(terminal, 65536).decode("utf-8", "replace"))
            except OSError:
                break
        tell(status=os.waitstatus_to_exitcode(status))
        break
