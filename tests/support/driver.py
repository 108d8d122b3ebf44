"""Speaks Circus's ZeroMQ protocol on behalf of the Rust tests.

One JSON object a line comes in on stdin, one goes out on stdout for each. Errors of the protocol's user
(a timeout, a refused connection) are answers; a bug in a test is an answer with "bug" in it.
"""
import base64
import json
import sys
import time
import uuid

import zmq
from circus.client import CircusClient
from circus.exc import CallError

context = zmq.Context.instance()
handles = {}
endpoints = {}
next_handle = [0]


def call(endpoint, command, properties, timeout):
    """One command as Python users send it."""
    client = CircusClient(endpoint=endpoint, timeout=timeout)
    try:
        return {"reply": client.call({"command": command, "properties": properties})}
    except CallError as error:
        return {"error": str(error)}
    finally:
        client.stop()


def open_socket(kind, endpoint, topics=(), options=None):
    sock = context.socket({"dealer": zmq.DEALER, "req": zmq.REQ, "sub": zmq.SUB, "router": zmq.ROUTER}[kind])
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.RECONNECT_IVL, 20)
    sock.setsockopt(zmq.RCVHWM, 1000000 if kind == "sub" else 1000)
    if kind == "dealer":
        sock.setsockopt(zmq.IDENTITY, uuid.uuid4().hex.encode())
    for name, value in (options or {}).items():
        sock.setsockopt(getattr(zmq, name), value)
    for topic in topics:
        sock.setsockopt(zmq.SUBSCRIBE, topic.encode())
    sock.connect(endpoint)
    next_handle[0] += 1
    handles[next_handle[0]] = sock
    endpoints[next_handle[0]] = endpoint
    return {"handle": next_handle[0]}


def send(handle, frames):
    handles[handle].send_multipart([base64.b64decode(f) for f in frames])
    return {}


def recv(handle, timeout):
    sock = handles[handle]
    if not sock.poll(int(timeout * 1000)):
        return {"error": "Timed out."}
    return {"frames": [base64.b64encode(f).decode() for f in sock.recv_multipart()]}


def request(handle, command, properties, timeout, id=None, cast=False):
    """A command on an open dealer; the reply with its id, other replies are dropped."""
    mid = uuid.uuid4().hex if id is None else id
    message = {"id": mid, "command": command, "properties": properties}
    if cast:
        message["msg_type"] = "cast"
    sock = handles[handle]
    sock.send(json.dumps(message).encode())
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        if left <= 0 or not sock.poll(int(left * 1000) + 1):
            return {"error": "Timed out."}
        reply = json.loads(sock.recv_multipart()[-1])
        if reply.get("id") == mid:
            return {"reply": reply}


def exchange(handle, payload, probe, timeout, grace):
    """Sends one message as it is and collects what comes back for it.

    With `probe` a `numwatchers` follows at once: when that one is answered (and `grace` seconds have passed, for a
    daemon that answers some commands out of order) the message was not going to be answered. Without it the first
    reply is waited for.
    """
    sock, mark, replies = handles[handle], "probe-" + uuid.uuid4().hex, []
    sock.send(base64.b64decode(payload))
    end = time.monotonic() + timeout
    if probe:
        sock.send(json.dumps({"id": mark, "command": "numwatchers"}).encode())
    while True:
        left = end - time.monotonic()
        if probe and left > 0:
            if not sock.poll(200):
                poke(endpoints[handle])
                continue
        elif left <= 0 or not sock.poll(int(left * 1000) + 1):
            return {"replies": replies, "probe": False}
        text = sock.recv_multipart()[-1].decode("utf-8", "replace")
        if probe and mark in text:
            if replies or grace <= 0:
                return {"replies": replies, "probe": True}
            probe, end = False, time.monotonic() + grace
            continue
        if mark in text:
            continue
        replies.append(text)
        if not probe:
            return {"replies": replies, "probe": True}


def poke(endpoint):
    """Wakes circusd up: after some bad messages it does not look at the waiting ones until somebody else connects."""
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.connect(endpoint)
    sock.send(json.dumps({"id": "poke", "command": "numwatchers"}).encode())
    sock.poll(500)
    sock.close(0)


def events_until(handle, control, watcher, timeout):
    """The events up to one that this call causes itself.

    A `set` that changes nothing makes the daemon publish `watcher.NAME.updated`; one publisher's messages keep
    their order, so whatever was published before it has arrived too. Until the first one arrives the subscription
    may not have reached the daemon yet, so it is sent again.
    """
    sub, ctl = handles[handle], handles[control]
    mark = "watcher.%s.updated" % watcher.lower().replace(" ", "_")
    got, sent, end = [], 0, time.monotonic() + timeout
    while time.monotonic() < end:
        reply = request(control, "set", {"name": watcher, "options": {"warmup_delay": 0}, "waiting": True}, 5)
        if reply.get("reply", {}).get("status") != "ok":
            if "already running" in str(reply):
                time.sleep(0.02)
                continue
            return {"error": "cannot publish the mark: %s" % reply}
        sent += 1
        while sub.poll(500):
            topic, payload = sub.recv_multipart()
            topic = topic.decode()
            if topic == mark:
                return {"events": got}
            got.append([topic, json.loads(payload)])
    return {"error": "Timed out.", "events": got}


def flood(handle, command, properties, count):
    """Sends the same command many times and reads no reply."""
    sock, sent = handles[handle], 0
    message = json.dumps({"id": "flood", "command": command, "properties": properties}).encode()
    for _ in range(count):
        try:
            sock.send(message, zmq.DONTWAIT)
            sent += 1
        except zmq.Again:
            time.sleep(0.001)
    return {"sent": sent}


def send_big(handle, before, size, after):
    """Sends `before`, `size` letters and `after` as one message."""
    handles[handle].send(before.encode() + b"x" * size + after.encode())
    return {}


def close(handle):
    handles.pop(handle).close(0)
    return {}


def ping():
    return {"pyzmq": zmq.__version__}


OPERATIONS = {"call": call, "open": open_socket, "send": send, "recv": recv, "request": request, "exchange": exchange,
              "events_until": events_until, "close": close, "flood": flood, "send_big": send_big, "ping": ping}

for line in sys.stdin:
    message = json.loads(line)
    try:
        answer = OPERATIONS[message.pop("op")](**message)
    except Exception as error:  # the test shows it
        answer = {"bug": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
