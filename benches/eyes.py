"""What it costs a daemon of circ to be looked at: processor time with nobody looking and with each of circ's eyes.

    python3 benches/eyes.py [--circ target/x86_64-unknown-linux-gnu/release/circ] [--workers 10,100,500] [--seconds 8]

Each way of looking runs as its user would run it: `circ status --watch` and `circ top` on a terminal (a pty that is read), `circ web` with the
page's two event streams open, and its /metrics. The daemon's processor time is read from its clock (see watching.py); that of the
onlooker stands beside it. Workers sleep. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import watching

SCRAPES = 5
"""Looks at /metrics that are made to know what one costs."""


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Daemon:
    """A daemon with so many sleeping workers in one watcher of every hundred."""

    def __init__(self, circ: str, workers: int) -> None:
        self.circ = circ
        self.dir = tempfile.mkdtemp(prefix="circ-eyes-")
        self.endpoint = f"ipc://{self.dir}/control"
        text = f"[circus]\nendpoint = {self.endpoint}\npubsub_endpoint = ipc://{self.dir}/events\n"
        left = workers
        while left > 0:
            text += f"[watcher:w{left}]\ncmd = sleep 100000\nnumprocesses = {min(left, 100)}\n"
            left -= 100
        with open(f"{self.dir}/circus.ini", "w", encoding="utf-8") as file:
            file.write(text)
        self.process = subprocess.Popen(
            [circ, "daemon", f"{self.dir}/circus.ini", "--log-output", f"{self.dir}/log"], cwd=self.dir, stdin=subprocess.DEVNULL
        )
        end = watching.now() + 60
        while len(self.workers()) < workers or not os.path.exists(f"{self.dir}/control"):
            if watching.now() > end:
                self.end()
                raise watching.Late(f"no {workers} workers")
            time.sleep(0.1)

    def workers(self) -> list[int]:
        """Its children that run what they shall."""
        tasks = f"/proc/{self.process.pid}/task"
        # each thread has those that it has started
        children = [pid for task in os.listdir(tasks) for pid in watching.read(f"{tasks}/{task}/children").split()]
        return [int(pid) for pid in children if watching.read(f"/proc/{pid}/comm").strip() == watching.WORKER]

    def end(self) -> None:
        """Ends it and waits for it."""
        self.process.terminate()
        self.process.wait(60)
        shutil.rmtree(self.dir, ignore_errors=True)


class Terminal:
    """A program on a terminal whose output is read and forgotten."""

    def __init__(self, command: list[str]) -> None:
        master, slave = pty.openpty()
        import fcntl, struct, termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
        env = dict(os.environ, TERM="xterm-256color", LC_ALL="C.UTF-8")
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)
        self.master = master
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        try:
            while os.read(self.master, 65536):
                pass
        except OSError:
            pass

    def pids(self) -> list[int]:
        """The processes whose time is the onlooker's."""
        return [self.process.pid]

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        os.close(self.master)


class Web:
    """`circ web`, and a browser's streams."""

    def __init__(self, circ: str, endpoint: str, streams: bool) -> None:
        self.port = free_port()
        command = [circ, "web", "--host", "127.0.0.1", "--port", str(self.port), "--endpoint", endpoint]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = watching.now() + 20
        while True:
            try:
                daemon = json.loads(self.get("/api/v1/daemons"))["daemons"][0]["id"]
                break
            except OSError:
                if watching.now() > end:
                    raise
                time.sleep(0.05)
        self.heard = 0
        for stream in ("stats", "events") if streams else ():
            path = f"/api/v1/daemons/{daemon}/{stream}"
            threading.Thread(target=self.follow, args=(path,), daemon=True).start()

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read()
        connection.close()
        if reply.status != 200:
            raise SystemExit(f"{path}: {reply.status} {body[:200]!r}")
        return body

    def follow(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path)
        reply = connection.getresponse()
        try:
            while reply.readline():
                self.heard += 1
        except (OSError, http.client.HTTPException, ValueError):
            pass

    def pids(self) -> list[int]:
        return [self.process.pid]

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def cost(daemon: Daemon, other: list[int], seconds: float) -> tuple[float, float]:
    """Per cent of one processor: of the daemon, of the onlooker."""
    own = [daemon.process.pid]
    begin, at, beside = watching.now(), watching.processor_seconds(own), watching.processor_seconds(other)
    time.sleep(seconds)
    took = watching.now() - begin
    return (
        100 * (watching.processor_seconds(own) - at) / took,
        100 * (watching.processor_seconds(other) - beside) / took,
    )


def measure(circ: str, workers: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Every way of looking, once."""
    found: dict[str, tuple[float, float]] = {}
    daemon = Daemon(circ, workers)
    try:
        time.sleep(4)
        found["memory"] = (watching.memory([daemon.process.pid])["pss"] / 1e6, 0)
        found["nobody"] = cost(daemon, [], seconds)
        eyes = {
            "status --watch": lambda: Terminal([circ, "status", "--watch", "--endpoint", daemon.endpoint]),
            "top": lambda: Terminal([circ, "top", "--endpoint", daemon.endpoint]),
            "web": lambda: Web(circ, daemon.endpoint, True),
        }
        for name, start in eyes.items():
            eye = start()
            time.sleep(2)
            found[name] = cost(daemon, eye.pids(), seconds)
            if eye.process.poll() is not None:
                raise SystemExit(f"circ {name} has ended: {eye.process.returncode}")
            if name == "web" and not eye.heard:
                raise SystemExit("the streams of circ web say nothing")
            eye.end()
        eye = Web(circ, daemon.endpoint, False)
        eye.get("/metrics")
        own = [daemon.process.pid]
        at, beside = watching.processor_seconds(own), watching.processor_seconds(eye.pids())
        for _ in range(SCRAPES):
            size = len(eye.get("/metrics"))
        if size < 1000:
            raise SystemExit("/metrics says nothing")
        each = [
            (watching.processor_seconds(pids) - before) / SCRAPES for pids, before in ((own, at), (eye.pids(), beside))
        ]
        eye.end()
        # one every 15 seconds
        found["/metrics"] = (100 * each[0] / 15, 100 * each[1] / 15)
        time.sleep(3)
        found["nobody any more"] = cost(daemon, [], seconds)
        found["memory after"] = (watching.memory(own)["pss"] / 1e6, 0)
    finally:
        daemon.end()
    return found


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--circ", default="target/x86_64-unknown-linux-gnu/release/circ")
    parser.add_argument("--workers", default="0,10,100,500")
    parser.add_argument("--seconds", type=float, default=8)
    args = parser.parse_args()
    # what started it may be on its way to the disk still
    circ = shutil.copy(args.circ, tempfile.mkdtemp(prefix="circ-eyes-"))
    # so that nothing stays behind
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))
    names: list[str] = []
    try:
        for count in (int(count) for count in args.workers.split(",")):
            found = measure(circ, count, args.seconds)
            if not names:
                names = list(found)
                print("| workers | " + " | ".join(names) + " |")
                print("|---:|" + "---:|" * len(names))
            print(f"| {count} | " + " | ".join(shown(name, *found[name]) for name in names) + " |", flush=True)
    finally:
        shutil.rmtree(os.path.dirname(circ))


def shown(name: str, own: float, other: float) -> str:
    """A value as the table has it."""
    if name.startswith("memory"):
        return f"{own:.2f} MB"
    if name.startswith("nobody"):
        return f"{own:.3f} %"
    return f"{own:.2f} % ({other:.2f} %)"


if __name__ == "__main__":
    main()
