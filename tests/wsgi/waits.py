"""What the Python side of `circ chaussette` does when it has to wait for the front, step by step.

Run with the paths of worker.py and asgi.py. The channel is one of our own, so that two threads meet where they seldom do.
"""
import asyncio
import marshal
import mmap
import sys


def load(path):
    with open(path) as file:
        text = file.read()
    names = {"__name__": "worker", "channel": None}
    # all but the last line, which starts it
    exec(compile(text[: text.rindex("start()")], path, "exec"), names)
    return names


class Channel:
    """Packets that come, in turn; to ask for one more would wait for ever."""

    def __init__(self, *packets):
        self.packets = [marshal.dumps(packet, 2) for packet in packets]
        self.sent = []
        self.before_send = lambda: None

    def recv(self, length):
        assert self.packets, "waits for what another thread has heard already"
        return self.packets.pop(0)

    def recv_into(self, into, length=0, flags=0):
        if flags and not self.packets:
            raise BlockingIOError
        data = self.recv(length)
        into[: len(data)] = data
        return len(data)

    def send(self, data):
        self.before_send()
        self.sent.append(data)


def worker_of(names, channel, size):
    return names["Worker"](channel, None, mmap.mmap(-1, 16 + size), 2)


def room_that_another_thread_hears_of(names):
    channel = Channel((600, None, []))
    worker = worker_of(names, channel, 1000)
    worker.put(b"a" * 600, b"")
    # this thread sees that there is no room, and says how far it is; meanwhile the other hears that there is
    channel.before_send = lambda: channel.packets and worker.receive()
    worker.put(b"b" * 600, b"")
    assert worker.head == 1600 and worker.ring[16 : 16 + 600] == b"b" * 600


def credit_that_another_thread_hears_of(names):
    window = names["WINDOW"]
    channel = Channel((0, [(0, 7, window)], []))
    worker = worker_of(names, channel, 1 << 16)
    exchange = worker.exchange()
    exchange.number, exchange.status, exchange.headers = 7, "200 OK", []
    exchange.start()
    exchange.unacknowledged = window
    channel.before_send = lambda: channel.packets and worker.receive()
    exchange.chunk(b"x")
    assert exchange.unacknowledged == 1


def a_client_that_goes_as_soon_as_its_answer_begins(names):
    channel = Channel((0, [(1, 7, 0)], []))
    worker = worker_of(names, channel, 1 << 16)
    exchange = worker.exchange()
    exchange.number, exchange.status, exchange.headers = 7, "200 OK", []
    put = worker.put

    def put_and_hear(head, body):
        put(head, body)
        worker.receive()

    worker.put = put_and_hear
    exchange.start()
    worker.put = put
    try:
        exchange.chunk(b"x")
    except names["Gone"]:
        return
    raise AssertionError("the application goes on for nobody")


def a_template_that_changes_before_a_thread_has_used_it(names):
    worker = worker_of(names, Channel(), 1 << 16)
    request = (1, 0, {"HTTP_HOST": "one"}, "/", "", None, None, None)
    worker.prepare(request)
    first = worker.prepare((2, 0, None, "/", "", None, None, None))
    worker.prepare((3, 0, {"HTTP_HOST": "two"}, "/", "", None, None, None))
    seen = []

    def application(environ, start_response):
        seen.append(environ["HTTP_HOST"])
        start_response("200 OK", [])
        return [b""]

    worker.handle(application, first, worker.whole)
    assert seen == ["one"], seen


def what_begins_while_another_waits_has_its_own_context(names, asgi):
    import contextvars

    names = dict(names)
    with open(asgi) as file:
        exec(compile(file.read(), asgi, "exec"), names)
    user = contextvars.ContextVar("user", default="nobody")
    seen = []

    async def application(scope, receive, send):
        seen.append((user.get(), scope["path"], asyncio.current_task() is not None))
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x"})

    scope = {"type": "http", "method": "GET", "headers": [], "client": None}
    channel = Channel((0, None, [(5, -1, scope, "/other", b"", b"", None, None)]))
    loop = asyncio.new_event_loop()
    worker = names["Asgi"](channel, None, mmap.mmap(-1, 16 + 1000), application, loop, {})

    async def first():
        user.set("somebody")
        worker.wait(lambda: False)
        assert not seen, "it begins inside of the one that waits"
        for _ in range(5):
            await asyncio.sleep(0)

    loop.run_until_complete(first())
    assert seen == [("nobody", "/other", True)], seen
    assert not worker.running and channel.sent, "the front is told"
    loop.close()


NAMES = load(sys.argv[1])
room_that_another_thread_hears_of(NAMES)
credit_that_another_thread_hears_of(NAMES)
a_client_that_goes_as_soon_as_its_answer_begins(NAMES)
a_template_that_changes_before_a_thread_has_used_it(NAMES)
if sys.version_info >= (3, 7):
    what_begins_while_another_waits_has_its_own_context(NAMES, sys.argv[2])
print("done")
