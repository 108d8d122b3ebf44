"""What a program like BentoML does: servers on sockets that the daemon holds, by port and by path, workers that are told
their number, and a restart of everything by a pattern.

Arguments: endpoint, port, path of the Unix socket, a file that has the plugin restart everything. The daemon has the
sockets `_api_1` (the port) and `runner` (the path) and the watchers `api_server` and `runner`, with three and two workers.
"""
import socket
import sys
import time

from circus.client import CircusClient

endpoint, port, path, changed = sys.argv[1:]
client = CircusClient(endpoint=endpoint, timeout=60)


def ask(family, address):
    """Number and pid of a worker."""
    with socket.socket(family) as sock:
        sock.settimeout(60)
        sock.connect(address)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while True:
            more = sock.recv(65536)
            if not more:
                break
            answer += more
    head, body = answer.split(b"\r\n\r\n")
    assert b" 200 " in head, head
    wid, pid = body.split()
    return int(wid), int(pid)


def everybody(family, address, count):
    """Asks until so many workers have answered."""
    seen, end = {}, time.monotonic() + 60
    while len(seen) < count:
        assert time.monotonic() < end, seen
        wid, pid = ask(family, address)
        seen[pid] = wid
    return seen


def call(command, **properties):
    answer = client.call({"command": command, "properties": properties})
    assert answer["status"] == "ok", (command, answer)
    return answer


# $(CIRCUS.WID) in the arguments is each worker's number.
runners = everybody(socket.AF_UNIX, path, 2)
assert sorted(runners.values()) == [1, 2], runners
assert sorted(runners) == sorted(call("list", name="runner")["pids"])

# The servers on the port, three of them.
servers = everybody(socket.AF_INET, ("127.0.0.1", int(port)), 3)
assert sorted(servers.values()) == [1, 2, 3], servers

# A changed file of the service: everything is restarted, by a pattern.
call("restart", name="*", waiting=True)
again = everybody(socket.AF_INET, ("127.0.0.1", int(port)), 3)
assert not set(again) & set(servers), (servers, again)
assert not set(everybody(socket.AF_UNIX, path, 2)) & set(runners)

# The same by a plugin, that sees a change.
with open(changed, "w"):
    pass
end, now = time.monotonic() + 60, []
while len(now) != 3 or set(now) & set(again):
    assert time.monotonic() < end, (again, now)
    time.sleep(0.05)
    now = call("list", name="api_server")["pids"]
again = everybody(socket.AF_INET, ("127.0.0.1", int(port)), 3)
assert sorted(again) == sorted(now), (again, now)

# The sockets are the daemon's: they are told, and stay.
sockets = {sock["name"]: sock for sock in call("listsockets")["sockets"]}
assert sockets["_api_1"]["port"] == int(port) and sockets["runner"]["path"] == path, sockets

# A crashed worker is replaced while the other ones answer.
victim = next(iter(again))
call("kill", name="api_server", pid=victim, signum=9, waiting=True)
end = time.monotonic() + 60
while len(call("list", name="api_server")["pids"]) != 3 or victim in call("list", name="api_server")["pids"]:
    ask(socket.AF_INET, ("127.0.0.1", int(port)))
    assert time.monotonic() < end
client.stop()
