"""What is measured. Each scenario drives one daemon of one program and records values in seconds, bytes or counts."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import zmq
from peers import PATIENCE, Daemon, Failed, Group, Programs
from watching import Endings, Late, kill_worker, memory, now, processor_seconds, wake_ups

LOAD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "load.py")


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    startup: tuple[int, ...] = (1, 10, 100, 1000)
    memory: tuple[int, ...] = (10, 1000)
    idle_workers: int = 100
    idle_seconds: float = 10.0
    measured_workers: int = 500
    kill_pool: int = 50
    kills: int = 20
    kill_all: int = 200
    control_watchers: int = 100
    requests: int = 200
    clients: int = 16
    load_seconds: float = 3.0
    cli_runs: int = 10
    scale: int = 199
    reload: int = 50
    stop: int = 200


QUICK = Sizes(
    startup=(1, 10),
    memory=(10,),
    idle_workers=10,
    idle_seconds=2.0,
    measured_workers=10,
    kill_pool=6,
    kills=3,
    kill_all=10,
    control_watchers=5,
    requests=20,
    clients=4,
    load_seconds=0.5,
    cli_runs=2,
    scale=9,
    reload=5,
    stop=10,
)
"""Small enough to see within a minute whether everything works. Its numbers say nothing."""


@dataclass
class Bench:
    """One scenario run with one program: what it needs, and what it found."""

    programs: Programs
    impl: str
    sizes: Sizes
    chance: random.Random
    found: list[dict] = field(default_factory=list)

    def daemon(self, *groups: Group) -> Daemon:
        """A daemon with those groups, not started yet."""
        return self.programs.daemon(self.impl, list(groups))

    def record(
        self, metric: str, unit: str, values: list[float], show: tuple[str, ...] = ("median",), **more: object
    ) -> None:
        """Keeps values. `unit` is s, bytes, /s or answers/s; `show` names the statistics of the table."""
        self.found.append({"metric": metric, "unit": unit, "values": values, "show": list(show), **more})


# -- startup -----------------------------------------------------------------------------------------------------


def startup(bench: Bench) -> None:
    """From the start of the program to its first answer, and to all workers running."""
    for count in bench.sizes.startup:
        with bench.daemon(Group("w", count)) as daemon:
            # Looking costs processor time that the daemon could use: less often where there is more to look at.
            pause = 0.0005 if count <= 100 else 0.005
            daemon.launch()
            # The cheapest question there is; it waits in the client until somebody listens.
            daemon.client.send(daemon.request("numwatchers"))
            answer = running = None
            while answer is None or running is None:
                if answer is None and daemon.client.answered(0):
                    answer = now()
                    daemon.check(daemon.client.receive())
                if running is None and len(daemon.family.workers()) >= count:
                    running = now()
                missing = "no answer" if answer is None else f"not all of {workers(count)} run"
                daemon.still_runs(daemon.started + PATIENCE, missing)
                time.sleep(pause)
            bench.record(f"first answer, {workers(count)} configured", "s", [answer - daemon.started])
            bench.record(f"{workers(count)} running", "s", [running - daemon.started], workers=count)


def workers(count: int) -> str:
    """So many workers, in words."""
    return f"{count} worker" + ("" if count == 1 else "s")


# -- memory and rest ---------------------------------------------------------------------------------------------


def memory_use(bench: Bench) -> None:
    """Memory of the daemon and its helpers, without the workers."""
    for count in bench.sizes.memory:
        with bench.daemon(Group("w", count)) as daemon:
            daemon.up()
            time.sleep(2)
            found = memory(daemon.family.managers())
            bench.record(f"PSS, {count} workers", "bytes", [found["pss"]])
            bench.record(f"private memory, {count} workers", "bytes", [found["private"]])


def idle(bench: Bench) -> None:
    """What a daemon costs when nothing happens."""
    count = bench.sizes.idle_workers
    with bench.daemon(Group("w", count)) as daemon:
        daemon.up()
        time.sleep(2)
        managers = daemon.family.managers()
        processor, woken, start = processor_seconds(managers), wake_ups(managers), now()
        time.sleep(bench.sizes.idle_seconds)
        took = now() - start
        used = (processor_seconds(managers) - processor) / took
        bench.record(f"processor time per second, {count} workers", "s", [used])
        bench.record(f"wake-ups per second, {count} workers", "/s", [(wake_ups(managers) - woken) / took])


# -- statistics --------------------------------------------------------------------------------------------------


def statistics(bench: Bench) -> None:
    """What the statistics publisher costs, while nobody and while somebody subscribes, with all helpers."""
    if bench.impl == "supervisor":
        return  # it has none
    count, seconds = bench.sizes.measured_workers, bench.sizes.idle_seconds
    with bench.daemon(Group("w", count)) as daemon:
        daemon.statistics = True
        daemon.up()
        time.sleep(5)  # circusd starts another program for it, which asks for every watcher
        managers = daemon.family.managers()
        for audience in ("nobody", "one"):
            topics: collections.Counter[bytes] = collections.Counter()
            with Audience(daemon.stats_endpoint, topics) if audience == "one" else contextlib.nullcontext():
                time.sleep(2)
                topics.clear()
                processor, start = processor_seconds(managers), now()
                time.sleep(seconds)
                took = now() - start
                used = (processor_seconds(managers) - processor) / took
                label = f"{count} workers, {audience} subscribed"
                bench.record(f"processor time per second, {label}", "s", [used])
                bench.record(f"PSS, {label}", "bytes", [memory(managers)["pss"]])
            told = sum(1 for topic in topics if topic.startswith(b"stat.w."))
            if audience == "one" and told < count:
                raise Failed(f"{bench.impl} told of {told} workers, not of {count}")


class Audience:
    """Somebody who listens to all statistics. It counts messages by topic, on a thread of its own."""

    def __init__(self, endpoint: str, topics: collections.Counter[bytes]) -> None:
        self._socket = zmq.Context.instance().socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.subscribe(b"stat.")
        self._socket.connect(endpoint)
        self._topics = topics
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def _listen(self) -> None:
        while not self._left.is_set():
            if self._socket.poll(100):
                self._topics[self._socket.recv_multipart()[0]] += 1

    def __enter__(self) -> "Audience":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()
        self._socket.close(0)


# -- respawn -----------------------------------------------------------------------------------------------------


def respawn(bench: Bench) -> None:
    """From a worker's death to its replacement running."""
    sizes = bench.sizes
    with bench.daemon(Group("w", sizes.kill_pool)) as daemon:
        daemon.up()
        time.sleep(1.5)
        one_by_one(bench, daemon, sizes.kills)
    with bench.daemon(Group("w", sizes.kill_all)) as daemon:
        daemon.up()
        # circusd looks for dead workers every 5 s: begin anywhere between two looks.
        time.sleep(1.5 + 5 * bench.chance.random())
        old = daemon.family.workers()
        start = now()
        for pid in old:
            kill_worker(pid)
        while True:
            fresh = daemon.family.workers() - old
            if len(fresh) >= sizes.kill_all:
                break
            daemon.still_runs(start + PATIENCE, f"{len(fresh)} of {sizes.kill_all} killed workers are replaced")
            time.sleep(0.002)
        bench.record(f"{sizes.kill_all} killed at once, all replaced", "s", [now() - start])


def one_by_one(bench: Bench, daemon: Daemon, kills: int) -> None:
    """Kills workers at random moments, without waiting for one's replacement before the next."""
    known = daemon.family.workers()
    # Only workers from the start: a replacement is young, and a daemon may be slower to replace those.
    victims = bench.chance.sample(sorted(known), kills)
    waiting: collections.deque[float] = collections.deque()
    took: list[float] = []
    next_kill = now() + bench.chance.random()
    last_change = now()
    while len(took) < kills:
        if victims and now() >= next_kill:
            # Noted before the signal: nothing the daemon needs is left out.
            waiting.append(now())
            kill_worker(victims.pop())
            last_change, next_kill = now(), now() + 0.6 * bench.chance.random()
        for pid in daemon.family.workers() - known:
            known.add(pid)
            if not waiting:
                raise Failed("a worker appeared though none was missing")
            # Replacements look all alike: the first one is the first victim's.
            took.append(now() - waiting.popleft())
            last_change = now()
        daemon.still_runs(last_change + PATIENCE, f"{len(took)} of {kills} killed workers are replaced")
        time.sleep(0.0005)
    bench.record(f"one of {bench.sizes.kill_pool} killed, replaced", "s", took, ("p50", "p99"))


# -- control -----------------------------------------------------------------------------------------------------


def control(bench: Bench) -> None:
    """How fast questions are answered."""
    sizes = bench.sizes
    groups = [Group(f"w{index:04}", 1) for index in range(sizes.control_watchers)]
    with bench.daemon(*groups) as daemon:
        daemon.up()
        time.sleep(1)
        label = f"{sizes.control_watchers} watchers"
        for name in ("status", "list", "stats"):
            # supervisor has no question like `stats` (nothing there measures workers), nor one for names alone.
            if bench.impl == "supervisor" and name != "status":
                continue
            bench.record(f"{name}, {label}", "s", latencies(daemon, name, sizes.requests), ("p50", "p99"))
        bench.record(f"status by {sizes.clients} clients, {label}", "answers/s", [under_load(bench, daemon)])
        bench.record(f"status by the command line client, {label}", "s", command_line(bench, daemon))


def latencies(daemon: Daemon, name: str, count: int) -> list[float]:
    """Seconds from a question to its answer, before it is parsed: one client, one question at a time."""
    request = daemon.request(name)
    found: list[float] = []
    begin = now()
    while len(found) < count and (now() - begin < 15 or len(found) < 3):
        start = now()
        daemon.client.send(request)
        if not daemon.client.answered(PATIENCE):
            raise Late(f"no answer to {name}")
        answer = daemon.client.receive()
        found.append(now() - start)
        daemon.check(answer)
    return found


def under_load(bench: Bench, daemon: Daemon) -> float:
    """Answers a second to clients that ask without a pause, from two processes."""
    clients, seconds = bench.sizes.clients // 2, bench.sizes.load_seconds
    command = [sys.executable, LOAD, *daemon.load_address(), str(clients), str(seconds)]
    loads = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for load in loads:
            load.stdin.write(daemon.request("status"))
            load.stdin.close()
        rate = 0.0
        for load in loads:
            text = load.stdout.read()
            if load.wait(PATIENCE) != 0:
                raise Failed("the clients under load failed, see above")
            told = json.loads(text)
            daemon.check(told["first"].encode())
            rate += told["answers"] / told["seconds"]
        return rate
    finally:
        for load in loads:
            load.stdout.close()
            if load.poll() is None:
                load.kill()
                load.wait()


def command_line(bench: Bench, daemon: Daemon) -> list[float]:
    """Seconds that the program's own control client runs."""
    found = []
    for _ in range(bench.sizes.cli_runs):
        start = now()
        ran = subprocess.run(
            daemon.cli("status"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=bench.programs.environment,
            timeout=PATIENCE,
        )
        found.append(now() - start)
        if ran.returncode != 0:
            raise Failed(f"{daemon.cli('status')} exits with {ran.returncode}: {ran.stdout[-300:]!r}")
    return found


# -- scale -------------------------------------------------------------------------------------------------------


def scale(bench: Bench) -> None:
    """More workers, fewer, new ones, none."""
    sizes = bench.sizes
    if bench.impl == "supervisor":
        more_and_fewer_of_supervisor(bench)
    else:
        with bench.daemon(Group("w", 1)) as daemon:
            daemon.up()
            took = timed(daemon, "incr", more=sizes.scale, name="w", nb=sizes.scale, waiting=True)
            bench.record(f"{sizes.scale} workers more", "s", [took])
            time.sleep(1)
            took = timed(daemon, "decr", fewer=sizes.scale, name="w", nb=sizes.scale, waiting=True)
            bench.record(f"{sizes.scale} workers fewer", "s", [took])
        with bench.daemon(Group("w", sizes.reload)) as daemon:
            daemon.up()
            time.sleep(1)
            took = timed(daemon, "reload", more=sizes.reload, fewer=sizes.reload, name="w", waiting=True)
            bench.record(f"reload of {sizes.reload}", "s", [took])
    with bench.daemon(Group("w", sizes.stop)) as daemon:
        daemon.up()
        time.sleep(1)
        took = timed(daemon, "stop", fewer=sizes.stop, name="w", waiting=True)
        bench.record(f"stop of {sizes.stop}", "s", [took])
    with bench.daemon(Group("w", sizes.stop)) as daemon:
        daemon.up()
        time.sleep(1)
        with Endings(daemon.family.workers() | {daemon.pid}) as endings:
            start = now()
            daemon.terminate()
            took = endings.wait(0, start + PATIENCE) - start
        bench.record(f"SIGTERM to the daemon of {sizes.stop}", "s", [took])


def more_and_fewer_of_supervisor(bench: Bench) -> None:
    """supervisor cannot change how many there are. The nearest: start, and stop, a group that is configured."""
    count = bench.sizes.scale
    with bench.daemon(Group("w", 1), Group("more", count, autostart=False)) as daemon:
        daemon.up()
        bench.record(f"{count} workers more", "s", [timed(daemon, "start", more=count, name="more", waiting=True)])
        time.sleep(1)
        bench.record(f"{count} workers fewer", "s", [timed(daemon, "stop", fewer=count, name="more", waiting=True)])


def timed(daemon: Daemon, name: str, /, more: int = 0, fewer: int = 0, **properties: object) -> float:
    """Seconds until a command is carried out: until the daemon has answered so, and it is seen to be so: that many of
    the workers there were have ended, and that many that were not there run."""
    old = daemon.family.workers()
    request = daemon.request(name, **properties)
    with Endings(old) as endings:
        start = now()
        deadline = start + PATIENCE
        daemon.client.send(request)
        answered = None
        while more and len(daemon.family.workers() - old) < more:
            daemon.still_runs(deadline, f"not all of {more} new workers run after {name}")
            if answered is None and daemon.client.answered(0):
                answered = now()
            time.sleep(0.002)
        seen = now()
        if fewer:
            seen = max(seen, endings.wait(len(old) - fewer, deadline))
        if answered is None:
            if not daemon.client.answered(deadline - now()):
                raise Late(f"no answer to {name}")
            answered = max(seen, now())
        daemon.check(daemon.client.receive())
    return max(seen, answered) - start


SCENARIOS = {
    "startup": startup,
    "memory": memory_use,
    "idle": idle,
    "statistics": statistics,
    "respawn": respawn,
    "control": control,
    "scale": scale,
}
