#!/usr/bin/env python3
"""Measures `circ chaussette` beside other WSGI servers, in the same run, and shows the ratios. See benches/README.md."""

from __future__ import annotations

import argparse
import glob
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))

import pinned  # noqa: E402 (it lies beside this directory)

TARGET = os.path.join(os.path.dirname(os.path.dirname(HERE)), "target")
VENV = os.path.join(TARGET, "bench-wsgi-venv")
TICK = os.sysconf("SC_CLK_TCK")

# As a browser sends them.
BROWSER = (
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Referer: https://example.org/some/page?with=query&and=more",
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-User: ?1",
    "Priority: u=0, i",
)

# name: application, connections, headers, requests at once that a server of threads is to handle
SCENARIOS = {
    "hello": ("hello", 32, (), 1),
    "10 KiB": ("large", 32, (), 1),
    "12 headers": ("hello", 32, BROWSER, 1),
    "blocks 10 ms": ("blocks", 32, (), 32),
    "burns 55 us": ("burns", 32, (), 1),
    "one connection": ("hello", 1, (), 1),
    "close": ("hello", 32, ("Connection: close",), 1),
    "asgi hello": ("asgi", 32, (), 1),
}


def gunicorn(*more):
    return lambda s: [s.bin("gunicorn"), "-b", f"127.0.0.1:{s.port}", "-w", "1", *more, "--log-level", "error", s.module]


def granian(*more):
    def command(s):
        kind = "asgi" if s.application == "asgi" else "wsgi"
        threads = ["--blocking-threads", str(s.threads)] if s.threads > 1 else []
        return [
            s.bin("granian"), "--interface", kind, "--host", "127.0.0.1", "--port", str(s.port), "--workers", "1",
            "--log-level", "error", *more, *threads, s.module,
        ]  # fmt: skip

    return command


def chaussette(backend):
    return lambda s: [s.bin("chaussette"), "--fd", str(s.listener.fileno()), "--backend", backend, "--log-level", "critical", s.module]


def circ(*more):
    def command(s):
        threads = ["--threads", str(s.threads)] if s.threads > 1 else []
        return [
            s.circ, "chaussette", "--host", "127.0.0.1", "--port", str(s.port), "--log-level", "error",
            *threads, *more, "--python", s.bin("python"), s.module,
        ]  # fmt: skip

    return command


BJOERN = "import bjoern, application, sys; bjoern.run(getattr(application, sys.argv[1]), '127.0.0.1', int(sys.argv[2]))"

# name: command, the interfaces it serves
SERVERS = {
    "chaussette wsgiref": (chaussette("wsgiref"), "wsgi"),
    "chaussette waitress": (chaussette("waitress"), "wsgi"),
    "gunicorn sync": (gunicorn(), "wsgi"),
    "gunicorn gthread": (gunicorn("-k", "gthread", "--threads", "32"), "wsgi"),
    "granian default": (granian(), "wsgi asgi"),
    "granian best": (granian("--http", "1", "--no-ws", "--runtime-mode", "st", "--loop", "uvloop"), "wsgi asgi"),
    "bjoern": (lambda s: [s.bin("python"), "-c", BJOERN, s.application, str(s.port)], "wsgi"),
    "uvicorn": (
        lambda s: [
            s.bin("uvicorn"), "--host", "127.0.0.1", "--port", str(s.port), "--loop", "uvloop", "--http", "httptools",
            "--no-access-log", "--log-level", "error", s.module,
        ],
        "asgi",
    ),  # fmt: skip
    "circ": (circ(), "wsgi asgi"),
}


class Serving:
    """One server, while it is measured."""

    def __init__(self, name, scenario, options):
        self.application, _, _, self.threads = SCENARIOS[scenario]
        self.module = f"application:{self.application}"
        self.circ = options.circ
        self.listener = listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
        environment["PYTHONPATH"] = HERE
        command = SERVERS[name][0](self)
        start = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True, "cwd": HERE}
        self.log = tempfile.TemporaryFile("w+")
        if "--fd" in command:
            listener.listen(2048)
            start["pass_fds"] = [listener.fileno()]
            self.process = subprocess.Popen(command, env=environment, stderr=self.log, **start)
            listener.close()
        else:
            listener.close()
            self.process = subprocess.Popen(command, env=environment, stderr=self.log, **start)
        self.await_answer()

    @staticmethod
    def bin(name):
        return os.path.join(VENV, "bin", name)

    def await_answer(self):
        end = time.monotonic() + 20
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as client:
                    client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    if b" 200 " in client.recv(65536):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        self.log.seek(0)
        text = self.log.read()
        self.end()
        raise RuntimeError(f"does not serve: {text[-2000:]}")

    def processes(self):
        """The server and all it has started."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    with open(f"/proc/{entry}/stat", encoding="utf-8") as file:
                        parent = int(file.read().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                children.setdefault(parent, []).append(int(entry))
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo += children.get(pid, [])
        return found

    def processor_time(self):
        """Seconds."""
        total = 0
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                    fields = file.read().rpartition(")")[2].split()
                total += int(fields[11]) + int(fields[12])
            except OSError:
                pass
        return total / TICK

    def memory(self):
        """Bytes, PSS."""
        total = 0
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                    total += int(re.search(r"^Pss:\s+(\d+)", file.read(), re.M)[1]) * 1024
            except OSError:
                pass
        return total

    def end(self):
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.log.close()


def load(port, connections, headers, seconds):
    """wrk's figures: requests a second, microseconds of the median and of p99, failures."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for header in headers:
        command += ["-H", header]
    text = subprocess.run([*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    unit = {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7}

    def percentile(name):
        found = re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s|m)", text, re.M)
        return float(found[1]) * unit[found[2]]

    requests = int(re.search(r"(\d+) requests in", text)[1])
    failed = sum(int(number) for number in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    failed += sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
    return requests, rate, percentile("50"), percentile("99"), failed


def measure(name, scenario, options):
    _, connections, headers, _ = SCENARIOS[scenario]
    serving = Serving(name, scenario, options)
    try:
        load(serving.port, connections, headers, 1)
        before = serving.processor_time()
        requests, rate, median, p99, failed = load(serving.port, connections, headers, options.seconds)
        spent = serving.processor_time() - before
        return {
            "scenario": scenario, "server": name, "rate": rate, "p50": median, "p99": p99, "failed": failed,
            "cpu": spent / max(requests, 1) * 1e6, "memory": serving.memory(),
        }  # fmt: skip
    finally:
        serving.end()


def show(results, scenarios, servers):
    """The tables: medians over the rounds; each value's ratio to circ's."""
    median = {}
    for row in results:
        for key in ("rate", "p99", "cpu", "memory", "failed"):
            median.setdefault((row["scenario"], row["server"], key), []).append(row[key])
    median = {key: statistics.median(values) for key, values in median.items()}
    lines = []
    for title, key, form in (
        ("Requests a second (circ's are so many times theirs)", "rate", lambda v: f"{v:,.0f}"),
        ("Latency, p99, ms", "p99", lambda v: f"{v / 1000:.2f}"),
        ("Processor time a request, all processes together, µs", "cpu", lambda v: f"{v:.1f}"),
        ("Memory, PSS of all processes together, MiB", "memory", lambda v: f"{v / 2**20:.1f}"),
    ):
        lines += ["", f"{title}:", "", "| server | " + " | ".join(scenarios) + " |", "|---|" + "---|" * len(scenarios)]
        for server in servers:
            cells = []
            for scenario in scenarios:
                value, ours = median.get((scenario, server, key)), median.get((scenario, "circ", key))
                if value is None:
                    cells.append("")
                    continue
                cell = form(value)
                if key == "rate" and server != "circ" and ours:
                    cell += f" ({ours / value:.1f})"
                if median.get((scenario, server, "failed")):
                    cell += " !"
                cells.append(cell)
            if any(cells):
                lines.append(f"| {server} | " + " | ".join(cells) + " |")
    lines.append("\n`!`: some requests failed.")
    return "\n".join(lines)


def parse():
    parser = argparse.ArgumentParser(description=__doc__)

    def some(known):
        def names(text):
            given = text.split(",")
            for name in given:
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
            return [name for name in known if name in given]

        return names

    everything = {"type": some(SCENARIOS), "default": list(SCENARIOS), "metavar": "A,B", "help": ", ".join(SCENARIOS)}
    parser.add_argument("--scenarios", **everything)
    everything = {"type": some(SERVERS), "default": list(SERVERS), "metavar": "A,B", "help": ", ".join(SERVERS)}
    parser.add_argument("--servers", **everything)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often everything is measured (3)")
    parser.add_argument("--seconds", type=int, default=4, metavar="N", help="how long each time (4)")
    parser.add_argument("--circ", metavar="PATH", help="the binary (default: the newest release build under target/)")
    parser.add_argument("--out", metavar="FILE", help="write every value here too, as JSON lines")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: show what an earlier --out holds")
    return parser.parse_args()


def main():
    options = parse()
    if options.table:
        with open(options.table, encoding="utf-8") as file:
            print(show([json.loads(line) for line in file], options.scenarios, options.servers))
        return 0
    if not shutil.which("wrk"):
        sys.exit("there is no `wrk`, which makes the load (Debian: apt install wrk)")
    pinned.make(VENV, os.path.join(HERE, "requirements.txt"))
    if not options.circ:
        found = glob.glob(os.path.join(TARGET, "release", "circ")) + glob.glob(os.path.join(TARGET, "*", "release", "circ"))
        if not found:
            sys.exit("no release build under target/: run `cargo build --release`")
        options.circ = max(found, key=os.path.getmtime)
    results, failed = [], False
    for turn in range(options.rounds):
        # The same server first each time would always meet the same state of the machine.
        servers = options.servers[turn % len(options.servers) :] + options.servers[: turn % len(options.servers)]
        for scenario in options.scenarios:
            kind = "asgi" if scenario.startswith("asgi") else "wsgi"
            for name in servers:
                if kind not in SERVERS[name][1].split():
                    continue
                try:
                    row = measure(name, scenario, options)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    print(f"{name}, {scenario}: {error}", file=sys.stderr)
                    failed = True
                    continue
                print("{scenario}: {server} {rate:,.0f}/s, {cpu:.1f} us".format(**row), file=sys.stderr)
                results.append(row)
                if options.out:
                    with open(options.out, "a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    print(show(results, options.scenarios, options.servers))
    return failed


if __name__ == "__main__":
    sys.exit(main())
