"""What a worker is told of the sockets it was handed, as JSON in a file.

told.py FILE [WORD...]; then it serves the first one: every connection is answered with the pid.
"""
import json
import os
import socket
import sys

told = {name: os.environ.get(name) for name in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_SOCKET")}
told["pid"] = str(os.getpid())
told["words"] = sys.argv[2:]
told["sockets"] = {}
for name in os.listdir("/proc/self/fd"):
    try:
        link = os.readlink("/proc/self/fd/" + name)
    except OSError:
        continue  # the directory that was listed
    if link.startswith("socket:"):
        duplicate = socket.socket(fileno=os.dup(int(name)))
        address = duplicate.getsockname()
        told["sockets"][name] = address if isinstance(address, str) else address[1]
        duplicate.close()
scratch = sys.argv[1] + ".part"
with open(scratch, "w") as out:
    json.dump(told, out)
os.rename(scratch, sys.argv[1])
if not told["LISTEN_FDS"]:
    while True:
        socket.socketpair()[0].recv(1)
listener = socket.socket(fileno=3)
listener.setblocking(True)
while True:
    connection, _ = listener.accept()
    with connection:
        connection.recv(100)
        connection.sendall(told["pid"].encode())
