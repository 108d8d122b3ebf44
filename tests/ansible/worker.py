"""A web worker that never breaks off: told to end, it answers whom it has accepted, and accepts nobody any more."""

import os
import select
import signal
import socket
import sys

listener = socket.socket(fileno=int(sys.argv[1]))
listener.setblocking(False)
wake, waker = socket.socketpair()
waker.setblocking(False)
signal.set_wakeup_fd(waker.fileno())
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(True))

body = ("version %s from %d\n" % (os.environ.get("VERSION", "1"), os.getpid())).encode()
answer = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
while not ending:
    select.select([listener, wake], [], [])
    if ending:
        break
    try:
        client, _ = listener.accept()
    except BlockingIOError:
        # Another worker was quicker.
        continue
    client.setblocking(True)
    request = b""
    while b"\r\n\r\n" not in request:
        part = client.recv(4096)
        if not part:
            break
        request += part
    client.sendall(answer)
    client.close()
