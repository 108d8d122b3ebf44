"""A small server on a descriptor it inherits: answers every connection with its pid (and, if given, a word).

serve.py FD [WORD]; at SIGTERM it finishes what it has begun and leaves.
"""
import os
import select
import signal
import socket
import sys

leaving = False


def leave(signum, frame):
    global leaving
    leaving = True


signal.signal(signal.SIGTERM, leave)
listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
answer = " ".join([str(os.getpid())] + sys.argv[2:]).encode()
while not leaving:
    ready, _, _ = select.select([listener], [], [], 0.05)
    if not ready:
        continue
    try:
        connection, _ = listener.accept()
    except BlockingIOError:
        continue
    with connection:
        connection.setblocking(True)
        connection.settimeout(20)
        try:
            connection.recv(100)
            connection.sendall(answer)
        except OSError:
            pass  # who asked has gone
