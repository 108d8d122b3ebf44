"""Long bodies and answers, streams that clients leave: the same in WSGI and in ASGI."""
import asyncio
import os
import time

BLOCK = bytes(range(256)) * 256


def mark(text):
    with open(os.environ["MARK"], "a") as file:
        file.write(text + "\n")


def length(body):
    return [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/up":
        mark("begun")
        size, block = 0, True
        while block:
            block = environ["wsgi.input"].read(65536)
            size += len(block)
        body = b"%d\n" % size
    elif path == "/down":
        count = int(environ["QUERY_STRING"])
        start_response("200 OK", [("Content-Length", str(count * len(BLOCK)))])
        return (BLOCK for _ in range(count))
    elif path == "/file":
        start_response("200 OK", [("Content-Length", str(os.path.getsize(os.environ["FILE"])))])
        return environ["wsgi.file_wrapper"](open(os.environ["FILE"], "rb"))
    elif path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    elif path.startswith("/length/"):
        _, _, kind, *lengths = path.split("/")
        start_response("200 OK", [("Content-Length", length) for length in lengths])
        if kind == "file":
            return environ["wsgi.file_wrapper"](open(os.environ["FILE"], "rb"))
        return {"whole": [b"hello"], "parts": (part for part in (b"he", b"llo"))}[kind]
    elif path.startswith("/status/"):
        start_response(path[8:] + " Said So", [("Content-Length", "0")])
        return [b""]
    else:
        names = "REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "wsgi.url_scheme"
        body = " ".join(repr(environ[name]) for name in names).encode()
    start_response("200 OK", length(body))
    return [body]


def events():
    try:
        number = 0
        while True:
            yield b"data: %d\n\n" % number
            number += 1
            time.sleep(0.01)
    finally:
        mark("closed")


async def asgi(scope, receive, send):
    assert scope["type"] == "http"
    path = scope["path"]

    async def start(headers, status=200):
        headers = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": headers})

    if path == "/up":
        mark("begun")
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                mark("gone")
                return
            size += len(message["body"])
            more = message["more_body"]
        body = b"%d\n" % size
    elif path == "/down":
        count = int(scope["query_string"])
        await start([("Content-Length", str(count * len(BLOCK)))])
        for _ in range(count):
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
        await send({"type": "http.response.body"})
        return
    elif path == "/file":
        await start([("Content-Length", str(os.path.getsize(os.environ["FILE"])))])
        await send({"type": "http.response.pathsend", "path": os.environ["FILE"]})
        return
    elif path == "/events":
        await start([("Content-Type", "text/event-stream")])
        await asyncio.wait([asyncio.ensure_future(tell(send)), asyncio.ensure_future(gone(receive))],
                           return_when=asyncio.FIRST_COMPLETED)
        mark("closed")
        return
    elif path.startswith("/length/"):
        _, _, kind, *lengths = path.split("/")
        await start([("Content-Length", length) for length in lengths])
        if kind == "file":
            await send({"type": "http.response.pathsend", "path": os.environ["FILE"]})
        elif kind == "parts":
            await send({"type": "http.response.body", "body": b"he", "more_body": True})
            await send({"type": "http.response.body", "body": b"llo"})
        else:
            await send({"type": "http.response.body", "body": b"hello"})
        return
    elif path.startswith("/status/"):
        await start([("Content-Length", "0")], int(path[8:]))
        await send({"type": "http.response.body"})
        return
    else:
        body = repr([scope["client"], scope["server"], scope["scheme"]]).encode()
    await start(length(body))
    await send({"type": "http.response.body", "body": body})


async def tell(send):
    number = 0
    while True:
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        number += 1
        await asyncio.sleep(0.01)


async def gone(receive):
    while (await receive())["type"] != "http.disconnect":
        pass
