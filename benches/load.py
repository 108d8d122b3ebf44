"""Clients that ask without a pause, in a process of their own so that the harness is not in their way.

Usage: load.py PROTOCOL ADDRESS CLIENTS SECONDS, the request on standard input. Prints a JSON object: `answers` counted
in `seconds`, and the `first` answer. Fails if an answer tells of an error.
"""

from __future__ import annotations

import json
import re
import sys
import threading

import zmq

from peers import PATIENCE, CircusClient, SupervisorClient
from watching import now

OK = {"circus": re.compile(rb'"status":\s*"ok"'), "supervisor": re.compile(rb"<methodResponse>\s*<params>")}


def circus(address: str, clients: int, seconds: float, request: bytes) -> tuple[int, float, bytes]:
    """Each client has one request under way. One thread: zmq polls for all."""
    poller = zmq.Poller()
    by_socket = {}
    for _ in range(clients):
        client = CircusClient(address)
        by_socket[client.socket] = client
        poller.register(client.socket, zmq.POLLIN)
        client.send(request)
    first = b""
    count, waiting, start = 0, set(by_socket), None
    while start is None or now() - start < seconds:
        ready = poller.poll(PATIENCE * 1000)
        if not ready:
            sys.exit("no answer to any client")
        for socket, _ in ready:
            answer = by_socket[socket].receive()
            good("circus", answer)
            first = first or answer
            waiting.discard(socket)
            count += start is not None
            by_socket[socket].send(request)
        # Counted from when everybody has had an answer: connecting is not part of it.
        if start is None and not waiting:
            start = now()
    return count, now() - start, first


def supervisor(address: str, clients: int, seconds: float, request: bytes) -> tuple[int, float, bytes]:
    """Each client has a connection and a thread."""
    counts, firsts = [0] * clients, [b""] * clients
    begin, over = threading.Barrier(clients + 1), threading.Event()
    failures: list[BaseException] = []

    def ask(index: int) -> None:
        try:
            client = SupervisorClient(address)
            client.send(request)
            firsts[index] = client.receive()
            begin.wait()
            while not over.is_set():
                client.send(request)
                good("supervisor", client.receive())
                counts[index] += 1
        except BaseException as failure:  # told by the main thread
            failures.append(failure)
            begin.abort()

    threads = [threading.Thread(target=ask, args=(index,), daemon=True) for index in range(clients)]
    for thread in threads:
        thread.start()
    try:
        begin.wait(PATIENCE)
    except threading.BrokenBarrierError:
        sys.exit(f"a client failed: {failures[:1]}")
    start = now()
    over.wait(seconds)
    count, took = sum(counts), now() - start
    over.set()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(f"a client failed: {failures[0]!r}")
    return count, took, firsts[0]


def good(protocol: str, answer: bytes) -> None:
    """Ends this process if the answer tells of an error."""
    if not OK[protocol].search(answer):
        sys.exit(f"an answer under load was no success: {answer[:300]!r}")


def main() -> None:
    protocol, address, clients, seconds = sys.argv[1:]
    ask = {"circus": circus, "supervisor": supervisor}[protocol]
    answers, took, first = ask(address, int(clients), float(seconds), sys.stdin.buffer.read())
    print(json.dumps({"answers": answers, "seconds": took, "first": first.decode()}))


if __name__ == "__main__":
    main()
