"""A web worker in the standard library's Python: answers HTTP on a socket that it inherits as --fd N."""
import argparse
import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("Hello, World! This is process %d.\n" % os.getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--fd", type=int, required=True, help="number of the inherited listening socket")
listener = socket.socket(fileno=parser.parse_args().fd)
server = HTTPServer(listener.getsockname(), Hello, bind_and_activate=False)
server.socket.close()
server.socket = listener
server.serve_forever()
