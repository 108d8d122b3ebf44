"""Applications for the tests of the ASGI server: small ones, one for each thing that the specification says."""
import asyncio
import functools
import os
import sys
import time
import zlib


async def answer(send, body, status=200, headers=()):
    if isinstance(body, str):
        body = body.encode()
    start = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": start + list(headers)})
    await send({"type": "http.response.body", "body": body})


def mark(text):
    with open(os.environ["MARK"], "a") as file:
        file.write(text + "\n")


async def hello(scope, receive, send):
    assert scope["type"] == "http"
    await answer(send, b"hello\n")


async def until_seen(scope, receive, send):
    """Answers /slow when the other answer was seen, and lets nobody else do anything meanwhile."""
    end = time.monotonic() + 20
    seen = scope["path"] != "/slow"
    while not seen and time.monotonic() < end:
        seen = os.path.exists(os.environ["MARK"])
        time.sleep(0.005)
    await answer(send, b"yes" if seen else b"no")


class Hello:
    async def __call__(self, scope, receive, send):
        await hello(scope, receive, send)


instance = Hello()
partial = functools.partial(hello)
method = Hello().__call__


class Awaited:
    def __init__(self, scope, receive, send):
        self.all = scope, receive, send

    def __await__(self):
        return hello(*self.all).__await__()


def plain(scope):
    """Looks like WSGI; is ASGI if one says so."""
    return None


def asgi_by_word(*all):
    return hello(*all)


def handing_out(scope, receive, send):
    """No coroutine function: its names tell."""
    return hello(scope, receive, send)


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"wsgi\n"]


async def scope_of(scope, receive, send):
    lines = ["%s=%r" % (name, scope[name]) for name in sorted(scope)]
    # what one request does to its scope is not seen by the next
    scope["headers"].append((b"x-left-behind", b"yes"))
    scope["state"]["left"] = "behind"
    scope["extensions"]["left"] = "behind"
    scope["left"] = "behind"
    await answer(send, "\n".join(lines))


async def socket_scope(scope, receive, send):
    if scope["type"] != "websocket":
        raise RuntimeError("no lifespan")
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-more", b"yes")]})
    lines = ["%s=%r" % (name, scope[name]) for name in sorted(scope)]
    await send({"type": "websocket.send", "text": "\n".join(lines)})
    await send({"type": "websocket.close"})


async def echo(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request", message
        body += message["body"]
        if not message["more_body"]:
            break
    await answer(send, body)


async def measured(scope, receive, send):
    """The length of the body, a sum over it, and whether it came bit by bit."""
    length, check, parts, largest = 0, 0, 0, 0
    while True:
        message = await receive()
        length += len(message["body"])
        check = zlib.crc32(message["body"], check)
        parts += 1
        largest = max(largest, len(message["body"]))
        if not message["more_body"]:
            break
    await answer(send, "%d %d %s %s" % (length, check, parts > 1, largest <= 1 << 18))


async def duplex(scope, receive, send):
    """Answers each part of the body as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        message = await receive()
        await send({"type": "http.response.body", "body": message["body"].upper(), "more_body": True})
        if not message["more_body"]:
            break
    await send({"type": "http.response.body"})


async def deaf(scope, receive, send):
    """Answers without reading the body."""
    await answer(send, b"no, thank you\n", 413)


async def parts(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [[b"X-Case", b"Kept"]]})
    for part in (b"one", b"", bytearray(b"two"), memoryview(b"three")):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def large(scope, receive, send):
    size = int(scope["query_string"])
    await answer(send, (b"0123456789abcdef" * (size // 16 + 1))[:size])


async def endless(scope, receive, send):
    """Sends until the client is gone; how much it could send is written down."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    sent, pending = 0, asyncio.ensure_future(receive())
    await asyncio.sleep(0)
    while True:
        pushing = asyncio.ensure_future(send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True}))
        while not pushing.done():
            done, _ = await asyncio.wait([pushing, *gone(pending)], timeout=0.5, return_when="FIRST_COMPLETED")
            if not done:
                mark("stuck %d" % sent)
        sent += 65536
        if pending.done() and (await pending)["type"] == "http.request":
            pending = asyncio.ensure_future(receive())
        elif pending.done():
            mark("gone")
            return


def gone(pending):
    return [] if pending.done() else [pending]


async def waits_for_the_end(scope, receive, send):
    """Never answers; writes down what it hears."""
    assert scope["type"] == "http"
    mark((await receive())["type"])
    mark((await receive())["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"nobody hears this"})
    mark((await receive())["type"])


async def after(scope, receive, send):
    """Goes on when its answer is complete."""
    await answer(send, b"done\n")
    mark((await receive())["type"])
    mark((await receive())["type"])
    try:
        await send({"type": "http.response.body", "body": b"more"})
    except RuntimeError as error:
        mark(str(error))


class Slow:
    """Tells how many are at it at once."""

    def __init__(self):
        self.now = self.most = 0

    async def __call__(self, scope, receive, send):
        assert scope["type"] == "http"
        self.now += 1
        self.most = max(self.most, self.now)
        wanted = int(scope["query_string"] or 0)
        while wanted and self.most < wanted:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        self.now -= 1
        await answer(send, "%d" % self.most)


slow = Slow()


async def wrong(scope, receive, send):
    """What an application must not do."""
    what = scope["path"].strip("/")
    if what == "nothing":
        return
    if what == "raise":
        raise ValueError("raised on purpose")
    if what == "body-first":
        await send({"type": "http.response.body", "body": b"x"})
    if what == "unknown":
        await send({"type": "http.response.nonsense"})
    await send({"type": "http.response.start", "status": 200, "headers": [
        (b"bad name", b"x") if what == "bad-header" else (b"x", b"\n") if what == "bad-value" else (b"x", b"y")]})
    if what == "text":
        await send({"type": "http.response.body", "body": "text"})
    if what == "twice":
        await send({"type": "http.response.start", "status": 200, "headers": []})
    if what == "start-only":
        return
    if what == "exit":
        sys.exit(3)
    if what == "die":
        os.kill(os.getpid(), 9)
    await send({"type": "http.response.body", "body": b"part", "more_body": True})
    if what == "half":
        return
    if what == "break":
        raise ValueError("raised in the middle")
    await send({"type": "http.response.body", "body": b""})


async def headers(scope, receive, send):
    """Headers in forms that the specification allows, or that applications use all the same."""
    pairs = [[b"X-List", b"a"], (b"x-bytes", bytearray(b"b")), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"),
             (b"x-latin", "caf\u00e9".encode("latin-1")), (b"x-utf8", "caf\u00e9".encode())]
    kind = scope["path"]
    await send({"type": "http.response.start", "status": 418,
                "headers": (pair for pair in pairs) if kind == "/generator" else pairs})
    await send({"type": "http.response.body", "body": b"tea"})


SHARED = [[b"x-n", b""]]
MUTABLE = [(b"x-n", bytearray(2))]


async def heads(scope, receive, send):
    """Heads that are the same for a while, and such as are changed afterwards."""
    kind, number = scope["path"], scope["query_string"]
    status, pairs = 200, [(b"x-n", number[:1])]
    if kind == "/changed":
        SHARED[0][1] = number
        pairs = SHARED
    elif kind == "/mutable":
        MUTABLE[0][1][:] = number
        pairs = MUTABLE
    elif kind == "/plain":
        status += int(number[:1])
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": number})
    # the answer is told by now
    pairs.append((b"x-more", b"1")) if kind == "/grown" else None


async def no_body(scope, receive, send):
    await send({"type": "http.response.start", "status": int(scope["path"][1:]), "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b""})


async def many_parts(scope, receive, send):
    """An answer in parts, to GET and HEAD alike."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
    for part in (b"ab", b"cd", b"ef"):
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})
    mark("complete")


async def file(scope, receive, send):
    path = os.environ["MARK"] + ".file"
    size = b"%d" % os.stat(path).st_size
    assert "http.response.pathsend" in scope["extensions"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
    await send({"type": "http.response.pathsend", "path": path})


def lifespan(how):
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            if how == "unknown":
                raise AssertionError("http only")
            assert (await receive())["type"] == "lifespan.startup"
            mark("startup")
            if how == "fails":
                await send({"type": "lifespan.startup.failed", "message": "no database"})
                return
            if how == "raises":
                raise ValueError("no lifespan today")
            scope["state"]["common"] = ["kept"]
            scope["state"]["own"] = "fresh"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await asyncio.sleep(0.05)
            mark("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        state = scope.get("state", {})
        if "common" in state:
            state["common"].append("x")
            own, state["own"] = state["own"], "changed"
            await answer(send, "%s %d" % (own, len(state["common"])))
        else:
            await answer(send, "no state")
    return application


lives = lifespan("lives")
fails = lifespan("fails")
raises = lifespan("raises")
unknown = lifespan("unknown")


async def sockets(scope, receive, send):
    """WebSockets; the path says what it does."""
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["type"] == "http":
        return await answer(send, b"http\n")
    what = scope["path"].strip("/")
    assert (await receive())["type"] == "websocket.connect"
    if what == "refuse":
        await send({"type": "websocket.close"})
        mark(repr(await receive()))
        return
    if what == "deny":
        assert "websocket.http.response" in scope["extensions"]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"because")]})
        await send({"type": "websocket.http.response.body", "body": b"not ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"you"})
        return
    if what == "raise-first":
        raise ValueError("raised before accepting")
    if what == "return-first":
        return
    await send({"type": "websocket.accept"})
    if what == "raise":
        raise ValueError("raised on an open one")
    if what == "return":
        return
    if what == "die":
        os.kill(os.getpid(), 9)
    if what == "close":
        await send({"type": "websocket.close", "code": 4001, "reason": "caf\u00e9 \u2264 enough"})
        mark(repr(await receive()))
        try:
            await send({"type": "websocket.send", "text": "late"})
        except (RuntimeError, OSError) as error:
            mark(type(error).__name__)
        return
    if what == "large":
        for size in (0, 1, 125, 126, 65535, 65536, 65537, 1000000):
            await send({"type": "websocket.send", "bytes": b"x" * size})
            await send({"type": "websocket.send", "text": "\u00e9" * size})
    if what == "push":
        # more than anybody takes at once
        sent = 0
        try:
            while True:
                pushing = asyncio.ensure_future(send({"type": "websocket.send", "bytes": b"x" * 10000}))
                while not (await asyncio.wait([pushing], timeout=0.5))[0]:
                    mark("stuck %d" % sent)
                await pushing
                sent += 10000
        except OSError:
            mark("gone")
        return
    if what == "lazy":
        # takes nothing for a while
        while not os.path.exists(os.environ["MARK"] + ".go"):
            await asyncio.sleep(0.01)
        count, total = 0, 0
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            count, total = count + 1, total + len(message["bytes"])
            if message["bytes"] == b"last":
                await send({"type": "websocket.send", "text": "%d %d" % (count, total)})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            mark("disconnect %r %r" % (message["code"], message.get("reason")))
            # heard again, if it is asked for again
            assert (await receive())["type"] == "websocket.disconnect"
            try:
                await send({"type": "websocket.send", "text": "late"})
            except OSError:
                mark("OSError")
            return
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
