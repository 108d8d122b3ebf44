"""Applications for the tests of the WSGI server: small ones, one for each thing that PEP 3333 says."""
import os
import sys
import threading
import time
from wsgiref.validate import validator


def text(start_response, body, status="200 OK", more=()):
    if isinstance(body, str):
        body = body.encode("latin-1")
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))] + list(more))
    return [body]


def hello(environ, start_response):
    return text(start_response, "hello\n")


def seed(environ, start_response):
    # as in an article about Circus and Chaussette, its text as bytes
    data = b"Hello, World!\n"
    start_response("200 OK", [("Content-type", "text/plain"), ("Content-Length", str(len(data)))])
    return iter([data])


def environ_of(environ, start_response):
    lines = []
    for name in sorted(environ):
        value = environ[name]
        if isinstance(value, (str, bool, tuple)):
            lines.append("%s=%r" % (name, value))
    return text(start_response, "\n".join(lines) + "\n")


def echo(environ, start_response):
    return text(start_response, environ["wsgi.input"].read())


def until_seen(environ, start_response):
    """Answers /slow when the other answer was seen."""
    end = time.monotonic() + 20
    seen = environ["PATH_INFO"] != "/slow"
    while not seen and time.monotonic() < end:
        seen = os.path.exists(os.environ["MARK"])
        time.sleep(0.005)
    return text(start_response, "yes" if seen else "no")


def together(environ, start_response):
    """Answers /two when two requests have begun."""
    seen = environ["PATH_INFO"] != "/two"
    if not seen:
        with open(os.environ["MARK"], "a") as mark:
            mark.write("begun\n")
    end = time.monotonic() + 20
    while not seen and time.monotonic() < end:
        with open(os.environ["MARK"]) as mark:
            seen = len(mark.readlines()) > 1
        time.sleep(0.005)
    return text(start_response, "yes" if seen else "no")


SHARED = [["X-N", ""]]


def heads(environ, start_response):
    """Heads that are the same for a while, and lists that are changed afterwards."""
    kind, number = environ["PATH_INFO"], environ["QUERY_STRING"]
    if kind == "/changed":
        SHARED[0][1] = number
        start_response("200 OK", SHARED)
    elif kind == "/grown":
        headers = [("X-N", number[:1])]
        start_response("200 OK", headers)
        headers.append(("X-More", number))
    else:
        start_response("20%s OK" % number[0], [("X-N", number[:1])])
    return [number.encode()]


def sized(environ, start_response):
    """As many bytes as the query's first number says, made of the second."""
    length, seed = environ["QUERY_STRING"].split("-")
    data = b"%s." % seed.encode()
    data = (data * (int(length) // len(data) + 1))[:int(length)]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", length)])
    return [data]


def echo_path(environ, start_response):
    return text(start_response, environ["PATH_INFO"])


def noted(environ, start_response):
    """Writes down who asks."""
    with open(os.environ["MARK"], "a") as file:
        file.write("%(REQUEST_METHOD)s %(PATH_INFO)s\n" % environ)
    return text(start_response, environ["wsgi.input"].read())


def hanging(environ, start_response):
    while environ["PATH_INFO"] == "/hang":
        time.sleep(1)
    return text(start_response, "%d\n" % os.getpid())


def streaming_much(environ, start_response):
    """So many blocks of 64 KiB."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for _ in range(int(environ["QUERY_STRING"])):
        yield b"x" * 65536


def reading(environ, start_response):
    """Every way to read, on the body 'one\\ntwo\\nthree\\nfour'."""
    stream = environ["wsgi.input"]
    kinds = [stream.read(2), stream.readline(), stream.readline(2), stream.readlines(1), list(stream), stream.read()]
    return text(start_response, repr(kinds))


def measured(environ, start_response):
    """The length of the body and a sum over it."""
    import zlib
    stream, length, check = environ["wsgi.input"], 0, 0
    while True:
        block = stream.read(1 << 16)
        if not block:
            break
        length += len(block)
        check = zlib.crc32(block, check)
    return text(start_response, "%d %d %s" % (length, check, environ.get("CONTENT_LENGTH")))


class Closing:
    """An iterable with close(); writes down that it was called."""

    def __init__(self, parts, mark):
        self.parts = iter(parts)
        self.mark = mark

    def __iter__(self):
        return self

    def __next__(self):
        part = next(self.parts)
        if isinstance(part, Exception):
            raise part
        return part

    def close(self):
        with open(self.mark, "a") as file:
            file.write("closed\n")


def closing(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    parts = {
        "/parts": [b"a", b"", b"b"],
        "/none": [],
        "/fails": [b"a", ValueError("in the middle")],
        "/fails-at-once": [ValueError("at the beginning")],
        "/endless": (b"x" * 65536 for _ in iter(int, 1)),
    }[environ["PATH_INFO"]]
    return Closing(parts, os.environ["MARK"])


def late(environ, start_response):
    """start_response is called only when the first part is asked for."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"late\n"


def writing(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    write(b"and ")
    return [b"returned\n"]


def changing_its_mind(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise KeyError("oops")
    except KeyError:
        start_response("503 Out Of Order", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry\n"]


def too_late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun\n"
    try:
        raise KeyError("oops")
    except KeyError:
        start_response("503 Out Of Order", [], sys.exc_info())
    yield b"never\n"


def wrong(environ, start_response):
    kind = environ["PATH_INFO"]
    if kind == "/raises":
        raise RuntimeError("a mistake")
    if kind == "/exits":
        sys.exit(3)
    if kind == "/twice":
        start_response("200 OK", [])
        start_response("200 OK", [])
    if kind == "/no-start":
        return [b"x"]
    if kind == "/text":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["text"]
    if kind == "/injects":
        start_response("200 OK", [("X-Bad", "a\r\nSet-Cookie: b")])
        return [b"x"]
    if kind == "/status":
        start_response("fine", [])
        return [b"x"]
    if kind == "/nothing":
        start_response("200 OK", [])
        return None
    return text(start_response, "good\n")


class Name(str):
    """Frameworks have such kinds of text."""


def subclasses(environ, start_response):
    start_response(Name("200 OK"), [(Name("X-A"), Name("caf\xe9")), ("X-B", "b")])
    return [b"x"]


def empty(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/204":
        start_response("204 No Content", [])
        return [b"must not be seen"]
    if path == "/304":
        start_response("304 Not Modified", [("ETag", '"x"')])
        return [b"must not be seen"]
    return text(start_response, "twelve bytes", more=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


def streaming(environ, start_response):
    """A part whenever the test has asked for one by making a file."""
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    directory = os.environ["MARK"]
    for number in range(3):
        while not os.path.exists(os.path.join(directory, "part-%d" % number)):
            time.sleep(0.01)
        yield b"data: %d\n\n" % number


def large(environ, start_response):
    """So many MiB, of which it says the length if asked."""
    count = int(environ["QUERY_STRING"] or 64)
    headers = [("Content-Type", "application/octet-stream")]
    if environ["PATH_INFO"] == "/length":
        headers.append(("Content-Length", str(count << 20)))
    start_response("200 OK", headers)
    block = bytes(range(256)) * 4096
    return (block for _ in range(count))


def file(environ, start_response):
    opened = open(os.environ["FILE"], "rb")
    headers = [("Content-Type", "application/octet-stream")]
    if environ["QUERY_STRING"]:
        offset, length = environ["QUERY_STRING"].split("-")
        opened.seek(int(offset))
        headers.append(("Content-Length", length))
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](opened, 4096)


def dying(environ, start_response):
    if environ["PATH_INFO"] == "/die":
        os._exit(1)
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.2)
    return text(start_response, "%d\n" % os.getpid())


def blocking(environ, start_response):
    if environ["PATH_INFO"] == "/mark":
        open(os.environ["MARK"], "w").close()
    time.sleep(float(environ["QUERY_STRING"] or 0.01))
    return text(start_response, "%s\n" % threading.current_thread().name)


def version(environ, start_response):
    return text(start_response, VERSION)


try:
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "version")) as _file:
        VERSION = _file.read()
except OSError:
    VERSION = "none"


@validator
def validated(environ, start_response):
    stream = environ["wsgi.input"]
    stream.read(3)
    stream.readline()
    environ["wsgi.errors"].write("")
    status = "200 OK"
    if environ["REQUEST_METHOD"] == "HEAD":
        start_response(status, [("Content-Type", "text/plain")])
        return []
    body = b"valid " + environ["REQUEST_METHOD"].encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def factory():
    return hello
