import socket
import time


def app(environ, start_response):
    # waits where a cooperative library lets others go on
    time.sleep(float(environ["QUERY_STRING"] or 0))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [socket.socket.__module__.encode()]


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(3):
        time.sleep(0.01)
        yield b"part %d\n" % number
