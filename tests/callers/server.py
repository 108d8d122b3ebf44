"""A worker that serves HTTP on a socket it was handed: WORKER_ID FD --args JSON. Each answer names the worker and its pid."""
import json
import os
import socket
import sys

wid, fd = sys.argv[1], int(sys.argv[2])
assert sys.argv[3] == "--args" and json.loads(sys.argv[4]) == json.loads(os.environ["RUNNER_MAP"]), sys.argv
sock = socket.socket(fileno=fd)
sock.setblocking(True)
while True:
    client, _ = sock.accept()
    client.recv(65536)
    body = ("%s %d" % (wid, os.getpid())).encode()
    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    client.close()
