"""What every server of the comparison serves: the same applications, WSGI and ASGI."""
import time

LARGE = b"x" * 10240
HELLO = b"Hello, World!\n"


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [HELLO]


def large(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10240")])
    return [LARGE]


def blocks(environ, start_response):
    """Waits 10 ms, as for a database."""
    time.sleep(0.01)
    return hello(environ, start_response)


def burns(environ, start_response):
    """Computes for 55 µs."""
    end = time.perf_counter_ns() + 55_000
    while time.perf_counter_ns() < end:
        pass
    return hello(environ, start_response)


START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"14")],
}
BODY = {"type": "http.response.body", "body": HELLO}


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"].rpartition(".")[2]
            await send({"type": "lifespan.%s.complete" % kind})
            if kind == "shutdown":
                return
    await send(START)
    await send(BODY)
