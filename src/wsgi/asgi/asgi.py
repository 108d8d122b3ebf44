"""ASGI 3 for circ's server: the second text of a worker, run in a copy of worker.py's names when the application is ASGI.

One event loop, many requests at once. The framing is that of worker.py; the front sends more kinds of orders (parts of
bodies, messages of WebSockets), this side more kinds of records. All that one turn of the loop has to say is told at once.
"""
import asyncio
import contextvars
import functools

ACCEPT, TEXT, BINARY, CLOSE, CREDIT = range(6, 11)
# what the front's orders are: see src/wsgi/asgi/link.rs
(ORDER_CREDIT, ORDER_GONE, ORDER_PART, ORDER_LAST, ORDER_TEXT, ORDER_BINARY, ORDER_LEFT) = range(7)
# a message counts for so many bytes more than it has, and never for more than half of the front's window
OVERHEAD, MOST = 64, 1 << 17
# the front is told of what was taken when it is so much
TAKEN = 1 << 16
ROOM = 1 << 17
FRESH, HEADED, STREAMING, MUTED, DONE = range(5)
CONNECTING, OPEN, DENYING, CLOSED = range(4)
HTTP_EXTENSIONS = {"http.response.pathsend": {}}


class ClientGone(OSError):
    """The client has gone: nothing can be sent to it."""


def told(error):
    """An exception as the application sees it: without the line of this file that called it."""
    trace = error.__traceback__
    return "".join(traceback.format_exception(type(error), error, trace.tb_next or trace))


class Channel:
    """What a request and a WebSocket have in common: waiting for news, and for room to send."""

    gone = False
    # everything was told that the front waits for
    over = False
    unacknowledged = 0
    taken = 0
    news = None
    room = None

    async def hear(self):
        if self.news is None:
            self.news = asyncio.Event()
        self.news.clear()
        await self.news.wait()

    async def space(self):
        """Waits until the client has taken enough of what was sent, or has gone."""
        while self.unacknowledged >= ROOM and not self.gone:
            if self.room is None:
                self.room = asyncio.Event()
            self.room.clear()
            await self.room.wait()

    def wake(self):
        if self.news is not None:
            self.news.set()

    def acknowledged(self, amount):
        self.unacknowledged -= amount
        if self.room is not None:
            self.room.set()

    def left(self):
        """The client has gone."""
        self.gone = True
        self.wake()
        if self.room is not None:
            self.room.set()

    def took(self, amount):
        """The application has taken so much of what the client sends."""
        self.taken += amount
        if self.taken >= TAKEN:
            self.worker.put(dumps((self.number, CREDIT, "%d" % self.taken, None, 0), 2), b"")
            self.taken = 0

    def end(self, kind):
        self.over = True
        self.worker.put(dumps((self.number, kind, None, None, 0), 2), b"")

    def whole(self, status, headers, body):
        self.over = True
        self.worker.whole(self.number, status, headers, body)

    def broken(self, text):
        """Nothing was sent yet, and nothing will be."""
        sys.stderr.write(text)
        sys.stderr.flush()
        body = b"Internal Server Error\n"
        self.whole(500, [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))], body)


class Http(Channel):
    """A request and its answer."""

    state = FRESH
    # parts of a body that comes bit by bit
    parts = None
    coming = False
    status = headers = None

    def __init__(self, worker, number, body, mute):
        self.worker = worker
        self.number = number
        # the whole body, if it came with the request
        self.body = body
        # an answer to HEAD
        self.mute = mute

    async def run(self, application, scope):
        try:
            await application(scope, self.receive, self.send)
        except BaseException as error:
            self.failed(error)
        else:
            if not self.over:
                self.unfinished()
        del self.worker.running[self.number]

    def failed(self, error):
        if not (self.gone and isinstance(error, (asyncio.CancelledError, ClientGone))):
            text = told(error)
            if self.state <= HEADED and not self.over:
                self.broken(text)
                return
            sys.stderr.write(text)
            sys.stderr.flush()
        if not self.over:
            self.end(BROKEN)

    def unfinished(self):
        if self.gone:
            self.end(BROKEN)
        elif self.state <= HEADED:
            self.broken("the application has returned without an answer\n")
        else:
            sys.stderr.write("the application has returned before its answer was complete\n")
            sys.stderr.flush()
            self.end(BROKEN)

    async def receive(self):
        while True:
            if self.gone or self.state == DONE:
                return {"type": "http.disconnect"}
            body = self.body
            if body is not None:
                self.body = None
                return {"type": "http.request", "body": body, "more_body": False}
            parts = self.parts
            if parts:
                body = parts[0] if len(parts) == 1 else b"".join(parts)
                self.took(len(body) + OVERHEAD * len(parts))
                parts.clear()
                return {"type": "http.request", "body": body, "more_body": self.coming}
            await self.hear()

    async def send(self, message):
        kind = message["type"]
        state = self.state
        if kind == "http.response.body" and FRESH < state < DONE:
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = memoryview(body).tobytes()
            more = message.get("more_body", False)
            if state == HEADED and not self.gone:
                if self.mute and (more or len(body) > LARGEST):
                    body = b""
                if not more and len(body) <= LARGEST or self.mute:
                    self.whole(self.status, self.headers, body)
                    self.state = MUTED if more else DONE
                    self.wake()
                    return
                self.worker.put(head(self.number, START, self.status, self.headers, 0), b"")
                self.state = STREAMING
            if self.state == STREAMING:
                if body:
                    await self.part(body)
                if not more and not self.gone:
                    self.end(END)
            if not more:
                self.state = DONE
                self.wake()
        elif kind == "http.response.start" and state == FRESH:
            # kept: most answers are whole with the next message
            self.status = message["status"]
            self.headers = message.get("headers", ())
            self.state = HEADED
        elif kind == "http.response.pathsend" and state == HEADED:
            if not self.gone:
                self.file(message["path"])
            self.state = DONE
            self.wake()
        elif state == DONE:
            raise RuntimeError("unexpected ASGI message %r: the answer is complete" % kind)
        else:
            wanted = "http.response.start" if state == FRESH else "http.response.body"
            raise RuntimeError("expected ASGI message %r, but got %r" % (wanted, kind))

    async def part(self, body):
        rest = memoryview(body)
        while len(rest):
            if self.unacknowledged >= ROOM:
                await self.space()
            if self.gone:
                return
            part = rest[:LARGEST]
            rest = rest[LARGEST:]
            self.unacknowledged += len(part)
            self.worker.put(dumps((self.number, CHUNK, None, None, len(part)), 2), part)

    def file(self, path):
        """Hands a file over to the front, which sends it without this process."""
        if self.mute:
            self.whole(self.status, self.headers, b"")
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            place = b"0 %d" % os.fstat(descriptor).st_size
            record = head(self.number, FILE, self.status, self.headers, len(place))
            self.worker.hand_over(descriptor)
        finally:
            os.close(descriptor)
        self.over = True
        self.worker.put(record, place)

    def order(self, kind, what):
        if kind == ORDER_CREDIT:
            self.acknowledged(what)
        elif kind == ORDER_GONE:
            self.left()
        elif kind == ORDER_PART or kind == ORDER_LAST:
            self.parts.append(what)
            self.coming = kind == ORDER_PART
            self.wake()


class Socket(Channel):
    """A WebSocket."""

    state = CONNECTING
    status = headers = None
    connected = False

    def __init__(self, worker, number):
        self.worker = worker
        self.number = number
        self.queue = collections.deque()
        self.parts = []
        self.last = None

    async def run(self, application, scope):
        code = 1000
        try:
            await application(scope, self.receive, self.send)
        except BaseException as error:
            code = 1011
            if not isinstance(error, (asyncio.CancelledError, ClientGone)) or not self.gone:
                text = told(error)
                if self.state == CONNECTING and not self.gone:
                    self.broken(text)
                else:
                    sys.stderr.write(text)
                    sys.stderr.flush()
        else:
            if self.state == CONNECTING and not self.gone:
                self.broken("the application has returned without accepting or refusing the WebSocket\n")
        if not self.over:
            if self.state == OPEN and not self.gone:
                self.close(code, "")
            self.end(BROKEN if self.state == DENYING else END)
        del self.worker.running[self.number]

    async def receive(self):
        if not self.connected:
            self.connected = True
            return {"type": "websocket.connect"}
        while not self.queue:
            if self.last is not None:
                return self.last
            await self.hear()
        message, cost = self.queue.popleft()
        if cost:
            self.took(cost)
        return message

    async def send(self, message):
        kind = message["type"]
        state = self.state
        if self.gone:
            raise ClientGone("the client of the WebSocket has gone")
        if state == OPEN:
            if kind == "websocket.send":
                data = message.get("bytes")
                if data is not None:
                    kind = BINARY
                    if type(data) is not bytes:
                        data = memoryview(data).tobytes()
                else:
                    kind = TEXT
                    data = message["text"].encode()
                if self.unacknowledged >= ROOM:
                    await self.space()
                    if self.gone:
                        raise ClientGone("the client of the WebSocket has gone")
                self.unacknowledged += len(data) + OVERHEAD
                worker, number = self.worker, self.number
                if len(data) > LARGEST:
                    data = memoryview(data)
                    while len(data) > LARGEST:
                        worker.put(dumps((number, CHUNK, None, None, LARGEST), 2), data[:LARGEST])
                        data = data[LARGEST:]
                worker.put(dumps((number, kind, None, None, len(data)), 2), data)
                return
            if kind == "websocket.close":
                self.close(message.get("code", 1000), message.get("reason") or "")
                return
        elif state == CONNECTING:
            if kind == "websocket.accept":
                headers = message.get("headers", ())
                subprotocol = message.get("subprotocol")
                if subprotocol is not None:
                    headers = list(headers) + [(b"sec-websocket-protocol", subprotocol.encode("latin-1"))]
                self.worker.put(head(self.number, ACCEPT, 101, headers, 0), b"")
                self.state = OPEN
                return
            if kind == "websocket.close":
                self.whole(403, [(b"content-length", b"0")], b"")
                self.finished(1006)
                return
            if kind == "websocket.http.response.start":
                self.status = message["status"]
                self.headers = message.get("headers", ())
                self.state = DENYING
                return
        elif state == DENYING and kind == "websocket.http.response.body":
            # refusals are short: they are kept until they are whole
            self.parts.append(memoryview(message.get("body", b"")).tobytes())
            if not message.get("more_body", False):
                body = b"".join(self.parts)
                if len(body) <= LARGEST:
                    self.whole(self.status, self.headers, body)
                else:
                    self.worker.put(head(self.number, START, self.status, self.headers, 0), b"")
                    for at in range(0, len(body), LARGEST):
                        part = body[at:at + LARGEST]
                        self.worker.put(dumps((self.number, CHUNK, None, None, len(part)), 2), part)
                    self.end(END)
                self.finished(1006)
            return
        names = {CONNECTING: "before the WebSocket was accepted", OPEN: "on an open WebSocket",
                 DENYING: "in a refusal", CLOSED: "after the WebSocket was closed"}
        raise RuntimeError("unexpected ASGI message %r %s" % (kind, names[state]))

    def close(self, code, reason):
        reason = reason.encode()
        self.state = CLOSED
        self.worker.put(dumps((self.number, CLOSE, "%d" % code, None, len(reason)), 2), reason)

    def finished(self, code):
        self.state = CLOSED
        self.last = {"type": "websocket.disconnect", "code": code, "reason": ""}
        self.wake()

    def order(self, kind, what):
        if kind == ORDER_CREDIT:
            self.acknowledged(what)
            return
        if kind == ORDER_PART:
            self.parts.append(what)
            return
        if kind == ORDER_TEXT or kind == ORDER_BINARY:
            if self.parts:
                self.parts.append(what.encode() if type(what) is str else what)
                what = b"".join(self.parts)
                self.parts.clear()
            size = len(what)
            if kind == ORDER_BINARY:
                message = {"type": "websocket.receive", "bytes": what}
            else:
                if type(what) is bytes:
                    what = what.decode()
                else:
                    size = size if what.isascii() else len(what.encode())
                message = {"type": "websocket.receive", "text": what}
            self.queue.append((message, min(size + OVERHEAD, MOST)))
            self.wake()
            return
        if self.last is None:
            code, reason = what if kind == ORDER_LEFT else (1006, "")
            self.last = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self.left()


def head(number, kind, status, headers, length):
    """The marshal of an answer's beginning."""
    if status is not None and type(status) is not str:
        status = "%d" % status
    try:
        return dumps((number, kind, status, headers, length), 2)
    except ValueError:
        headers = [(bytes(name), bytes(value)) for name, value in headers]
        return dumps((number, kind, status, headers, length), 2)


class Lifespan:
    """The application's start and end."""

    def __init__(self, application, mode):
        self.application = application
        self.mode = mode
        self.state = {}
        self.queue = asyncio.Queue()
        self.started = asyncio.Event()
        self.ended = asyncio.Event()
        self.failure = None
        self.supported = False
        self.task = None

    async def startup(self):
        """Why the application cannot serve; None if it can."""
        if self.mode == "off":
            return None
        self.task = asyncio.get_running_loop().create_task(self.run())
        self.queue.put_nowait({"type": "lifespan.startup"})
        await self.started.wait()
        return self.failure

    async def shutdown(self):
        if self.task is None or not self.supported or self.task.done():
            return
        self.queue.put_nowait({"type": "lifespan.shutdown"})
        await self.ended.wait()

    async def run(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self.application(scope, self.queue.get, self.send)
        except BaseException as error:
            what = "%s: %s" % (type(error).__name__, error)
            if self.failure is not None or isinstance(error, asyncio.CancelledError):
                pass
            elif self.started.is_set() or self.mode == "on":
                traceback.print_exc()
                if not self.started.is_set():
                    self.failure = "lifespan: %s" % what
            else:
                # many applications know no lifespan, and say so by an exception
                sys.stderr.write("the application has no lifespan (%s)\n" % what)
            sys.stderr.flush()
        else:
            if not self.started.is_set() and self.mode == "on":
                self.failure = "lifespan: the application has returned without completing its startup"
        finally:
            self.started.set()
            self.ended.set()

    async def send(self, message):
        kind = message["type"]
        if kind == "lifespan.startup.complete" and not self.started.is_set():
            self.supported = True
            self.started.set()
        elif kind == "lifespan.startup.failed" and not self.started.is_set():
            self.failure = "its startup has failed: %s" % (message.get("message") or "no reason was given")
            self.started.set()
        elif kind == "lifespan.shutdown.complete" and self.started.is_set():
            self.ended.set()
        elif kind == "lifespan.shutdown.failed" and self.started.is_set():
            sys.stderr.write("the application's shutdown has failed: %s\n" % (message.get("message") or ""))
            sys.stderr.flush()
            self.ended.set()
        else:
            raise RuntimeError("unexpected ASGI message %r in the lifespan" % kind)


class Asgi(Worker):
    """The worker: one event loop."""

    def __init__(self, channel, files, ring, application, loop, state):
        Worker.__init__(self, channel, files, ring, 0)
        self.application = application
        self.loop = loop
        self.state = state
        # by number; keeps the tasks alive as well
        self.running = {}
        self.telling = False
        self.heard = False
        # what this thread has been at work, in nanoseconds
        self.spent = time.thread_time_ns()
        self.done = loop.create_future()
        self.context = contextvars.copy_context()
        # a name of its own for each costs more than it tells; most applications answer without ever waiting, and are then
        # done at once, where Python can do that
        more = {"name": "circ request"} if sys.version_info >= (3, 8) else {}
        if sys.version_info >= (3, 12):
            more["eager_start"] = True
        self.plain_task = functools.partial(asyncio.Task, loop=loop, **more)

    # --- the ring

    def whole(self, number, status, headers, body):
        if headers == self.last_headers and status == self.last_status:
            self.put(REPEAT.pack(b"r", number, len(body)), body)
            return
        self.put(head(number, WHOLE, status, headers, len(body)), body)
        # what could be changed afterwards is not compared with
        plain = type(headers) is list and all(
            type(pair) is tuple and type(pair[0]) is type(pair[1]) is bytes for pair in headers)
        self.last_headers = headers.copy() if plain else NONE
        self.last_status = status

    def put(self, head, body):
        self.append(head, body)
        if not self.telling:
            self.telling = True
            self.loop.call_soon(self.tell)

    def wait(self, heard):
        # there is no room: the front is a moment behind, it never waits for a client
        data = self.channel.recv(PACKET)
        if not data:
            self.leave()
            raise ClientGone("the server has gone")
        # what begins now is not to begin inside of this request, nor in its context
        self.loop.call_soon(self.begin, self.packet(data), context=self.context.copy())

    def tell(self):
        self.telling = False
        self.say()

    def say(self):
        # each packet gets an answer: the front may wait for it to send more
        if self.head != self.told or self.heard:
            self.told = self.head
            self.heard = False
            try:
                spent = time.thread_time_ns()
                self.channel.send(NEWS.pack(b"N", self.head, spent - self.spent, 0))
                self.spent = spent
            except OSError:
                self.leave()

    # --- what the front says

    def readable(self):
        try:
            length = self.channel.recv_into(self.inbox, PACKET, socket.MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            length = 0
        if length:
            # what is behind the packet's end is left from before; marshal stops at the end of its value
            self.begin(self.packet(self.inbox))
        else:
            self.leave()

    def packet(self, data):
        """Hears what a packet says; the requests in it."""
        self.heard = True
        self.tail, orders, requests = loads(data)
        running = self.running
        if orders:
            for kind, number, what in orders:
                channel = running.get(number)
                if channel is not None:
                    channel.order(kind, what)
        return requests

    def begin(self, requests):
        running = self.running
        if requests:
            create_task, application = self.create_task(), self.application
            for number, slot, scope, path, query, raw, port, body in requests:
                if scope is None:
                    scope = self.templates[slot].copy()
                elif slot >= 0:
                    self.templates[slot] = scope
                    scope = scope.copy()
                # what belongs to this request alone; the rest is the same for many
                scope["path"] = path
                scope["raw_path"] = raw
                scope["query_string"] = query
                scope["headers"] = scope["headers"].copy()
                client = scope["client"]
                if type(client) is str:
                    scope["client"] = (client, port)
                scope["state"] = self.state.copy()
                if scope["type"] == "http":
                    scope["asgi"] = {"version": "3.0", "spec_version": "2.3"}
                    scope["extensions"] = HTTP_EXTENSIONS.copy()
                    if body is None:
                        body = b""
                    channel = Http(self, number, body if body is not True else None, scope["method"] == "HEAD")
                    if body is True:
                        channel.parts = []
                        channel.coming = True
                else:
                    scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
                    scope["subprotocols"] = scope["subprotocols"].copy()
                    scope["extensions"] = {"websocket.http.response": {}}
                    channel = Socket(self, number)
                running[number] = channel
                channel.task = create_task(channel.run(application, scope))
        if not self.telling:
            # after the tasks: what they say at once goes with it
            self.telling = True
            self.loop.call_soon(self.tell)

    def create_task(self):
        """What makes a task of a coroutine: the loop's factory, if somebody has set one."""
        return self.plain_task if self.loop.get_task_factory() is None else self.loop.create_task

    def leave(self):
        self.loop.remove_reader(self.channel)
        if not self.done.done():
            self.done.set_result(None)


async def attend(worker, lifespan):
    worker.loop.add_reader(worker.channel, worker.readable)
    await worker.done
    tasks = [channel.task for channel in worker.running.values()]
    for channel in list(worker.running.values()):
        channel.left()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=5)
    await lifespan.shutdown()


def serve(application, settings, files, ring, channel):
    """Serves an application until the front lets go of the channel."""
    kind = settings["loop"]
    if kind in ("auto", "uvloop"):
        try:
            import uvloop
            loop = uvloop.new_event_loop()
        except ImportError:
            if kind == "uvloop":
                return "there is no uvloop here: install it, or say --loop asyncio"
            loop = asyncio.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def start():
        lifespan = Lifespan(application, settings["lifespan"])
        return lifespan, await lifespan.startup()

    lifespan, failure = loop.run_until_complete(start())
    if failure is not None:
        return failure
    channel.send(b"A" + repr(application).encode("utf-8", "replace")[:1000])
    worker = Asgi(channel, files, ring, application, loop, lifespan.state)
    loop.run_until_complete(attend(worker, lifespan))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    return None
