"""What a program like AiiDA does with its daemon, through Circus's own client, over ipc sockets.

Arguments: endpoint, pid file, watcher, directory of the sockets. The daemon runs two workers when this begins.
"""
import os
import shutil
import sys
import time

import psutil
from circus.client import CircusClient
from circus.exc import CallError

endpoint, pidfile, name, sockets = sys.argv[1:]


def until(what, probe):
    end = time.monotonic() + 60
    while not probe():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def call(command, timeout=20, **properties):
    client = CircusClient(endpoint=endpoint, timeout=timeout)
    try:
        return client.call({"command": command, "properties": properties})
    finally:
        client.stop()


def pid_of_the_daemon():
    with open(pidfile) as file:
        return int(file.read().strip())


# Is the pid file's process the daemon? One word of its command line must be its name, and the user ours.
process = psutil.Process(pid_of_the_daemon())
assert any(word in process.cmdline() for word in ("start-circus", "circusd")) or "circusd" in process.name(), process.cmdline()
assert process.username() == psutil.Process().username()

status = call("status", name=name)
assert status["status"] == "active", status

counted = call("numprocesses", name=name)
assert (counted["status"], counted["numprocesses"]) == ("ok", 2), counted

# The table of workers that a person sees.
workers = call("stats", name=name)["info"]
assert len(workers) == 2, workers
for pid, info in workers.items():
    assert info["pid"] == int(pid)
    assert isinstance(info["cpu"], (int, float)) and isinstance(info["mem"], (int, float)), info
    assert info["create_time"] <= time.time(), info
    assert psutil.Process(int(pid)).ppid() == process.pid

# The line about the daemon itself.
daemon = call("dstats")["info"]
assert daemon["pid"] == process.pid, daemon
assert isinstance(daemon["create_time"], float) and daemon["create_time"] <= time.time(), daemon

REAL = "python" in os.path.basename(process.exe())


def order(command, **properties):
    # The real circusd refuses while it is still at what came before; circ never does.
    answers = []

    def taken():
        answers.append(call(command, **properties))
        return not REAL or "already running" not in answers[-1].get("reason", "")

    until("the daemon to take " + command, taken)
    return answers[-1]


# More workers, fewer workers; not waited for.
answer = order("incr", name=name, nb=2, waiting=False)
assert answer["status"] == "ok", answer
until("four workers", lambda: len(call("stats", name=name).get("info", [])) == 4)
answer = order("decr", name=name, nb=2, waiting=False)
assert answer["status"] == "ok", answer
until("two workers", lambda: len(call("stats", name=name).get("info", [])) == 2)
# Waited for, when the answer tells how many there are.
answer = order("incr", name=name, nb=1, waiting=True)
assert (answer["status"], answer["numprocesses"]) == ("ok", 3), answer
assert len(call("stats", name=name)["info"]) == 3
answer = order("decr", name=name, nb=2, waiting=True)
assert (answer["status"], answer["numprocesses"]) == ("ok", 1), answer
assert len(call("stats", name=name)["info"]) == 1

# A restart that is waited for gives new workers.
before = set(call("stats", name=name)["info"])
answer = order("restart", name=name, waiting=True)
assert answer["status"] == "ok", answer
after = set(call("stats", name=name)["info"])
assert after and not after & before, (before, after)

# The end: an answer, no pid file, no process; then the sockets' directory goes.
answer = order("quit", waiting=True)
assert answer["status"] == "ok", answer
until("the pid file to go", lambda: not os.path.exists(pidfile))
until("the daemon to end", lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
for pid in after:
    assert not psutil.pid_exists(int(pid)), pid
shutil.rmtree(sockets)

# Nobody there: the one text that is looked for.
try:
    call("status", timeout=0.3, name=name)
    raise AssertionError("somebody answered")
except CallError as error:
    assert str(error) == "Timed out.", error
