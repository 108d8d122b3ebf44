"""The Python side of circ's WSGI server: runs the application, one process.

The front (Rust) speaks HTTP. It sends requests as packets on a SOCK_SEQPACKET pair (descriptor 0 of this process at its
start): a marshal of (tail, orders, requests). Answers go into a ring of shared memory as marshal records, each followed by
its body; a packet then says how far the ring is filled. See src/wsgi/mod.rs of circ for the whole of it.
"""
import array
import collections
import io
import marshal
import mmap
import os
import socket
import struct
import sys
import threading
import time
import traceback

dumps, loads = marshal.dumps, marshal.loads
clock = time.perf_counter
BytesIO = io.BytesIO
PACKET = 1 << 18
# kinds of records
WHOLE, START, CHUNK, END, BROKEN, FILE = range(6)
# bytes of one answer that may be on their way to a client who does not take them
WINDOW = 1 << 19
LARGEST = 1 << 16
PLAIN = (list, tuple)
LIST_ITERATOR, TUPLE_ITERATOR = type(iter([])), type(iter(()))
# a whole answer with the same head as the one before: number and length of its body, which follows
REPEAT = struct.Struct("<cII")
REPEATED, pack = REPEAT.size, REPEAT.pack
# what each request has of its own
EACH = ("PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "REMOTE_PORT", "wsgi.input")
# equal to no headers
NONE = object()
NEWS = struct.Struct("<cQQI")


class Gone(Exception):
    """The client has gone, or nobody wants the answer any more."""


class FileWrapper:
    """PEP 3333's wsgi.file_wrapper: the front takes the file over if it has a descriptor."""

    def __init__(self, filelike, blksize=8192):
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration


class Exchange:
    """One request on its way to an answer."""

    status = None
    headers = None
    sent = False
    unacknowledged = 0
    # the process has one; each worker makes a class of its own
    worker = None

    def start_response(self, status, headers, exc_info=None):
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise AssertionError("start_response was called twice without exc_info")
        self.status = status
        self.headers = headers
        return self.write

    def write(self, data):
        self.start()
        self.chunk(data)

    def start(self):
        """Sends status and headers, once."""
        if self.sent:
            return
        if self.status is None:
            raise AssertionError("the application gave data before it called start_response")
        head = record((self.number, START, self.status, self.headers, 0))
        self.sent = True
        # before the front knows of the stream: what it says of it may be heard by another thread
        self.worker.streams[self.number] = self
        self.worker.put(head, b"")

    def chunk(self, data):
        """Sends a part of the body now."""
        worker, number = self.worker, self.number
        if not isinstance(data, bytes):
            raise TypeError("a body consists of bytes, this is %s" % type(data).__name__)
        for at in range(0, len(data), LARGEST):
            part = data[at:at + LARGEST] if len(data) > LARGEST else data
            while self.unacknowledged >= WINDOW:
                worker.await_credit(self)
            worker.look(self)
            self.unacknowledged += len(part)
            worker.put(dumps((number, CHUNK, None, None, len(part)), 2), part)
        worker.tell()

    def finish(self, result):
        """Sends what the application has returned; closes it."""
        try:
            kind = type(result)
            if kind in PLAIN or kind is LIST_ITERATOR or kind is TUPLE_ITERATOR:
                body = result[0] if kind in PLAIN and len(result) == 1 else b"".join(result)
                if not self.sent:
                    self.whole(body)
                    return
                if body:
                    self.chunk(body)
            elif kind is FileWrapper and self.file(result):
                return
            else:
                complete = False
                for data in result:
                    if not data or complete:
                        continue
                    if not self.sent:
                        if declared(self.headers or ()) == len(data) <= LARGEST:
                            # nothing more is to come: the answer is whole, whatever the application still does
                            self.whole(data)
                            self.worker.tell()
                            complete = True
                            continue
                        self.start()
                    self.chunk(data)
                if complete:
                    return
                if not self.sent:
                    self.whole(b"")
                    return
            self.worker.put(dumps((self.number, END, None, None, 0), 2), b"")
        finally:
            if hasattr(result, "close"):
                self.worker.tell()
                result.close()

    def whole(self, body):
        if self.status is None:
            raise AssertionError("the application returned without calling start_response")
        if not isinstance(body, bytes):
            raise TypeError("a body consists of bytes, this is %s" % type(body).__name__)
        if len(body) > LARGEST:
            self.start()
            self.chunk(body)
            self.worker.put(dumps((self.number, END, None, None, 0), 2), b"")
        else:
            self.worker.whole(self.number, self.status, self.headers, body)
            self.sent = True

    def file(self, wrapper):
        """Hands a real file over to the front; False if it is none."""
        if self.sent or self.status is None:
            return False
        try:
            descriptor = wrapper.filelike.fileno()
            offset = wrapper.filelike.tell()
            size = os.fstat(descriptor).st_size
            if not os.path.isfile("/proc/self/fd/%d" % descriptor):
                return False
        except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
            return False
        place = b"%d %d" % (offset, max(size - offset, 0))
        head = record((self.number, FILE, self.status, self.headers, len(place)))
        # records and descriptors come in the same order
        with self.worker.writing:
            self.worker.hand_over(descriptor)
            self.worker.put(head, place)
        self.sent = True
        return True

    def failed(self):
        """The application has raised an exception."""
        kind, error, _ = sys.exc_info()
        if kind is Gone:
            self.worker.put(dumps((self.number, BROKEN, None, None, 0), 2), b"")
            return
        traceback.print_exc()
        sys.stderr.flush()
        if self.sent:
            self.worker.put(dumps((self.number, BROKEN, None, None, 0), 2), b"")
        else:
            body = b"Internal Server Error\n"
            headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))]
            self.worker.whole(self.number, "500 Internal Server Error", headers, body)
            self.sent = True


def record(values):
    """The marshal of an answer's beginning; subclasses of str are made plain."""
    try:
        return dumps(values, 2)
    except ValueError:
        number, kind, status, headers, length = values
        plain = str.__str__
        status = "".join(plain(status))
        headers = [("".join(plain(name)), "".join(plain(value))) for name, value in headers]
        return dumps((number, kind, status, headers, length), 2)


def declared(headers):
    """The Content-Length that an application has given."""
    for name, value in headers:
        if len(name) == 14 and name.lower() == "content-length":
            try:
                return int(value)
            except ValueError:
                return None
    return None


class Worker:
    def __init__(self, channel, files, ring, threads, plain=None):
        self.channel = channel
        self.plain = plain or channel
        self.files = files
        self.ring = ring
        self.size = len(ring) - 16
        # how far the ring is filled, where the front sees it even if this process dies
        self.filled = memoryview(ring)[:8].cast("Q")
        self.last_status, self.last_headers = None, NONE
        self.threads = threads
        self.templates = {}
        # bodies of requests that are files
        self.taken = {}
        self.queue = collections.deque()
        # the packet that is being read
        self.inbox = memoryview(bytearray(PACKET))
        self.head = 0
        self.told = 0
        self.tail = 0
        self.streams = {}
        self.gone = set()
        self.receiving = threading.RLock()
        self.writing = threading.RLock()
        self.news = threading.Condition(threading.Lock())
        self.ended = False
        self.farewell = lambda: None
        self.exchange = type("Exchange", (Exchange,), {"worker": self})

    # --- the ring

    def put(self, head, body):
        """Appends a record; waits for room if there is none."""
        with self.writing:
            self.append(head, body)

    def append(self, head, body):
        """The same, for who holds `writing` or is the only thread."""
        need = len(head) + len(body)
        ring, size = self.ring, self.size
        at = self.head % size
        if at + need > size or self.head + need - self.tail > size:
            skip = size - at if at + need > size else 0
            while self.head + skip + need - self.tail > size:
                self.tell()
                self.wait(lambda: self.head + skip + need - self.tail <= size)
            if skip:
                ring[16 + at] = 0
                self.head += skip
                at = 0
        at += 16
        if need < 4096:
            ring[at:at + need] = head + body
        else:
            middle = at + len(head)
            ring[at:middle] = head
            ring[middle:at + need] = body
        self.head += need
        self.filled[0] = self.head

    def whole(self, number, status, headers, body):
        """Appends a whole answer. Most have the head of the one before."""
        with self.writing:
            self.append_whole(number, status, headers, body)

    def append_whole(self, number, status, headers, body):
        """The same, for who holds `writing` or is the only thread."""
        if headers == self.last_headers and status == self.last_status:
            length = len(body)
            need = REPEATED + length
            head = self.head
            at = head % self.size
            if need < 4096 and at + need <= self.size and head + need - self.tail <= self.size:
                # append, for most answers
                at += 16
                self.ring[at:at + need] = pack(b"r", number, length) + body
                self.filled[0] = self.head = head + need
            else:
                self.append(pack(b"r", number, length), body)
            return
        head = record((number, WHOLE, status, headers, len(body)))
        # what could be changed afterwards is not compared with
        plain = type(headers) is list and all(type(pair) is tuple for pair in headers)
        self.last_headers = headers.copy() if plain else NONE
        self.last_status = status
        self.append(head, body)

    def tell(self, busy=0, count=0):
        """Tells the front how far the ring is filled."""
        if self.head != self.told or count:
            self.told = self.head
            self.channel.send(NEWS.pack(b"N", self.head, busy, count))

    def hand_over(self, descriptor):
        rights = array.array("i", [descriptor])
        self.files.sendmsg([b"F"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def take_over(self):
        """The file that holds the body of a request."""
        rights = array.array("i")
        _, extra, _, _ = self.files.recvmsg(1, socket.CMSG_SPACE(4))
        for level, kind, data in extra:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                rights.frombytes(data[:4])
        return os.fdopen(rights[0], "rb")

    # --- what the front says

    def receive(self, flags=0):
        # a cooperative socket waits whatever the flags say
        length = (self.plain if flags else self.channel).recv_into(self.inbox, 0, flags)
        if not length:
            self.ended = True
            raise SystemExit
        self.tail, orders, requests = loads(self.inbox[:length])
        for kind, number, amount in orders or ():
            if kind == 0:
                exchange = self.streams.get(number)
                if exchange is not None:
                    exchange.unacknowledged -= amount
            elif number in self.streams:
                self.gone.add(number)
        return requests

    def wait(self, heard):
        """Waits until the front has said something; `heard` tells whether another thread has heard it already."""
        if self.receiving.acquire(False):
            try:
                if not heard():
                    self.queue.extend(self.receive())
            finally:
                self.receiving.release()
            with self.news:
                self.news.notify_all()
        else:
            with self.news:
                self.news.wait(0.005)

    def await_credit(self, exchange):
        if exchange.number in self.gone:
            raise Gone
        self.tell()
        self.wait(lambda: exchange.unacknowledged < WINDOW or exchange.number in self.gone)

    def look(self, exchange):
        """Hears whether the client of a stream has gone."""
        if self.receiving.acquire(False):
            try:
                while True:
                    self.queue.extend(self.receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                pass
            finally:
                self.receiving.release()
        if exchange.number in self.gone:
            raise Gone

    # --- requests

    def prepare(self, request):
        """The request with an environ of its own and its file: this goes in the order in which they come."""
        number, slot, environ, path, query, uri, port, body = request
        if environ is None:
            environ = self.templates[slot].copy()
        else:
            environ["wsgi.errors"] = sys.stderr
            environ["wsgi.version"] = (1, 0)
            environ["wsgi.file_wrapper"] = FileWrapper
            # a copy that has these already need not grow for them
            for name in EACH:
                environ[name] = None
            if slot >= 0:
                self.templates[slot] = environ
                environ = environ.copy()
        if type(body) is int:
            self.taken[number] = self.take_over()
        return number, -1, environ, path, query, uri, port, body

    def handle(self, application, request, whole):
        """Runs the application for a request that needs no preparation, or had it."""
        # most of the time that the server itself takes is in here: calls are few
        number, slot, environ, path, query, uri, port, body = request
        environ = self.templates[slot].copy() if slot >= 0 else environ
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        if uri is None:
            uri = path + "?" + query if query else path
        environ["REQUEST_URI"] = environ["RAW_URI"] = uri
        if port is not None:
            environ["REMOTE_PORT"] = port
        else:
            del environ["REMOTE_PORT"]
        if body is None:
            environ["wsgi.input"] = BytesIO()
        elif type(body) is bytes:
            environ["wsgi.input"] = BytesIO(body)
            environ["CONTENT_LENGTH"] = str(len(body))
        else:
            environ["wsgi.input"] = self.taken[number]
            environ["CONTENT_LENGTH"] = str(body)
        exchange = self.exchange()
        exchange.number = number
        try:
            result = application(environ, exchange.start_response)
            if type(result) is list and len(result) == 1 and not exchange.sent and exchange.status is not None:
                body = result[0]
                if type(body) is bytes and len(body) <= LARGEST:
                    whole(number, exchange.status, exchange.headers, body)
                    return
            exchange.finish(result)
        except SystemExit:
            if self.ended:
                raise
            exchange.failed()
        except BaseException:
            exchange.failed()
        finally:
            if self.streams:
                self.streams.pop(number, None)
                self.gone.discard(number)
            if self.taken:
                self.let_go(number)

    def let_go(self, number):
        """Closes the file with the body of a request."""
        body = self.taken.pop(number, None)
        if body is not None:
            body.close()

    def run(self, application):
        """One request after the other."""
        queue, receiving, whole, handle = self.queue, self.receiving, self.append_whole, self.handle
        while True:
            if not queue:
                # the application may have threads of its own that wait for room
                with receiving:
                    queue.extend(self.receive())
            begun = told = clock()
            count = 0
            while queue:
                request = queue.popleft()
                if request[2] is not None or request[7] is not None:
                    request = self.prepare(request)
                handle(application, request, whole)
                count += 1
                now = clock()
                if now - told > 0.0003 and queue:
                    told = now
                    self.tell()
            self.tell(int((clock() - begun) * 1e9), count)

    def run_threads(self, application):
        """Several at once."""
        def loop():
            while True:
                with self.receiving:
                    while not self.queue:
                        self.queue.extend(self.receive())
                        with self.news:
                            self.news.notify_all()
                    request = self.prepare(self.queue.popleft())
                begun = clock()
                self.handle(application, request, self.whole)
                spent = int((clock() - begun) * 1e9)
                with self.writing:
                    self.tell(spent, 1)

        def guarded():
            try:
                loop()
            except SystemExit:
                pass
            except BaseException:
                traceback.print_exc()
            finally:
                self.farewell()
                os._exit(0 if self.ended else 70)

        for _ in range(self.threads - 1):
            threading.Thread(target=guarded, daemon=True).start()
        guarded()


def main(settings, files, ring_descriptor, channel):
    # the text for ASGI; what is left unread at an early end would cost the front what was said before
    asgi = channel.recv(PACKET)
    for path in settings["paths"]:
        if path not in sys.path:
            sys.path.append(path)
    sys.argv = [settings["program"]] + list(settings["arguments"])
    leave_signals_to_the_front()
    plain = channel
    watched = Watched(channel.fileno()) if settings["reload"] else None
    ring = mmap.mmap(ring_descriptor, settings["ring"])
    os.close(ring_descriptor)
    name = settings["application"]
    told = settings["told"]
    post = None
    try:
        channel = cooperate(settings["patch"], channel)
        if name == "chaussette.util.hello_app":
            application = hello_app
        elif name.startswith("paste:"):
            application = paste_app(name[len("paste:"):])
        else:
            application = find(name)
        if not callable(application):
            raise TypeError("%s is %r, which cannot be called" % (name, application))
        post = find(told["post_hook"]) if told.get("post_hook") else None
        if told.get("pre_hook"):
            hook("pre", find(told["pre_hook"]), told, plain)
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        if watched:
            watched.failed(error)
        plain.send(b"F" + ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace")[:4000])
        if watched:
            watched.start()
            # until the front lets it go
            while plain.recv(PACKET):
                pass
        os._exit(3)
    interface = settings["interface"]
    if interface == "auto":
        interface = "asgi" if is_asgi(application) else "wsgi"
    failure = None
    if settings["was"] not in ("", interface):
        failure = ("the application is %s now, and was %s before: start the server anew"
                   % (interface.upper(), settings["was"].upper()))
    if interface == "asgi" and sys.version_info < (3, 7):
        failure = "ASGI needs Python 3.7 or later, and this is %d.%d" % sys.version_info[:2]
    if watched:
        watched.look()
        watched.start()
    if interface == "asgi" and failure is None:
        names = dict(globals())
        exec(compile(asgi, "<circ asgi>", "exec"), names)
        failure = names["serve"](application, settings, files, ring, channel)
        if failure is None:
            if post:
                hook("post", post, told, plain)
            return
    if failure is not None:
        plain.send(b"F" + failure.encode("utf-8", "replace")[:4000])
        while watched and plain.recv(PACKET):
            pass
        os._exit(3)
    plain.send(b"R" + repr(application).encode("utf-8", "replace")[:1000])
    worker = Worker(channel, files, ring, settings["threads"], plain)
    if post:
        once = [post]
        worker.farewell = lambda: once and hook("post", once.pop(), told, plain)
    try:
        if worker.threads > 1:
            worker.run_threads(application)
        else:
            worker.run(application)
    except (SystemExit, KeyboardInterrupt):
        if not worker.ended:
            raise
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        worker.farewell()


def start():
    """The bootstrap has left `channel`; settings and descriptors come as the next packet."""
    settings, extra, _, _ = channel.recvmsg(PACKET, socket.CMSG_SPACE(8))
    rights = array.array("i")
    for level, kind, data in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            rights.frombytes(data[:len(data) - len(data) % rights.itemsize])
    null = os.open(os.devnull, os.O_RDWR)
    moved = socket.socket(fileno=os.dup(0))
    channel.detach()
    os.dup2(null, 0)
    os.close(null)
    files = socket.socket(fileno=rights[0])
    main(loads(settings), files, rights[1], moved)


start()
