"""Starts a program as systemd's socket units do: sockets from descriptor 3 on.

hand.py NAME=PORT|NAME=PATH,... PROGRAM [ARGUMENT...]
"""
import os
import socket
import sys

names, numbers = [], []
for pair in filter(None, sys.argv[1].split(",")):
    name, place = pair.split("=", 1)
    listener = socket.socket(socket.AF_UNIX if "/" in place else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(place if "/" in place else ("127.0.0.1", int(place)))
    listener.listen(5)
    names.append(name)
    numbers.append(os.dup(listener.detach()))
high = [os.dup2(number, 100 + index) for index, number in enumerate(numbers)]
for index, number in enumerate(high):
    os.dup2(number, 3 + index)  # inheritable
    os.close(number)
os.environ["LISTEN_FDS"] = str(len(names))
os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
