"""Waitress on an inherited descriptor: `serve` takes sockets.

waitress_fd.py FD
"""
import signal
import socket
import sys

import waitress

import app

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
waitress.serve(app.wsgi, sockets=[socket.socket(fileno=int(sys.argv[1]))])
