#!/usr/bin/env python3
"""Measures circ beside the real circus and supervisor, in the same run, and shows the ratios. See README.md."""

from __future__ import annotations

import argparse
import glob
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pinned

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(os.path.dirname(HERE), "target")
VENV = os.path.join(TARGET, "bench-venv")
IMPLS = ("circus", "supervisor", "circ")
SCENARIOS = ("startup", "memory", "idle", "statistics", "respawn", "control", "scale")


def main() -> int:
    options = parse()
    if options.table:
        with open(options.table, encoding="utf-8") as file:
            print(show([json.loads(line) for line in file], options.impls))
        return 0
    if os.path.realpath(sys.prefix) != os.path.realpath(VENV):
        pinned.make(VENV, os.path.join(HERE, "requirements.txt"))
        python = os.path.join(VENV, "bin", "python")
        os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])
    return measure(options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    which = ",".join(SCENARIOS)
    parser.add_argument("--scenarios", type=names(SCENARIOS), default=SCENARIOS, metavar="A,B", help=which)
    parser.add_argument("--impls", type=names(IMPLS), default=IMPLS, metavar="A,B", help=",".join(IMPLS))
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="how often everything is measured (5)")
    parser.add_argument("--circ", metavar="PATH", help="the binary (default: the newest release build under target/)")
    parser.add_argument("--out", metavar="FILE", help="write every value here too, as JSON lines")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only whether it works, not how fast")
    parser.add_argument("--table", metavar="FILE", help="measure nothing: show what an earlier --out holds")
    return parser.parse_args()


def names(known: tuple[str, ...]):
    """A parser of comma-separated names; they keep the order of `known`."""

    def parse_names(text: str) -> tuple[str, ...]:
        given = text.split(",")
        for name in given:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return tuple(name for name in known if name in given)

    return parse_names


def positive(text: str) -> int:
    """A parser of numbers from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def find_circ(given: str | None) -> str:
    """The binary to measure."""
    if given:
        found = [given] if os.access(given, os.X_OK) else []
    else:
        found = glob.glob(os.path.join(TARGET, "release", "circ"))
        found += glob.glob(os.path.join(TARGET, "*", "release", "circ"))
    if not found:
        sys.exit(f"{given} cannot be run" if given else "no release build under target/: run `cargo build --release`")
    return os.path.abspath(max(found, key=os.path.getmtime))


def build_floor(directory: str) -> str | None:
    """Compiles the posix_spawn loop; None if there is no C compiler."""
    compiler = shutil.which("cc")
    program = os.path.join(directory, "floor")
    if compiler and subprocess.call([compiler, "-O2", "-o", program, os.path.join(HERE, "floor.c")]) == 0:
        return program
    say("no working C compiler (cc): without the posix_spawn loop")
    return None


def measure(options: argparse.Namespace) -> int:
    """Runs the rounds, and shows the table. 1 if anything failed."""
    import peers
    from scenarios import QUICK, Sizes

    sleep = shutil.which("sleep")
    if not sleep:
        sys.exit("there is no `sleep`, which is what the workers are")
    # Not what the caller's shell happens to hold: it could point a program elsewhere.
    environment = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    sizes = QUICK if options.quick else Sizes()
    peers.become_subreaper()
    out = Results(options.out)
    # Whoever ends a run early shall find no daemon left: leave through the `with` blocks and `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))
    try:
        with tempfile.TemporaryDirectory(prefix="circ-bench-") as directory:
            # A copy: a build meanwhile changes nothing, and no other circ on the machine shares its pages.
            circ = shutil.copy(find_circ(options.circ), directory) if "circ" in options.impls else ""
            programs = peers.Programs(circ, VENV, sleep, environment)
            out.add(about(programs, options))
            floor = build_floor(directory) if "startup" in options.scenarios else None
            for turn in range(options.rounds):
                # The same program first each time would always meet the same state of the machine.
                impls = options.impls[turn % len(options.impls) :] + options.impls[: turn % len(options.impls)]
                for scenario in options.scenarios:
                    if scenario == "startup" and floor:
                        run_floor(out, floor, sleep, sizes.startup, turn)
                    for impl in impls:
                        say(f"round {turn + 1} of {options.rounds}: {scenario} of {impl}")
                        run(out, programs, scenario, impl, sizes, turn)
    finally:
        peers.end_orphans()
    print(out.text(options.impls))
    return 1 if out.failed else 0


def run(out: "Results", programs, scenario: str, impl: str, sizes, turn: int) -> None:
    """One scenario with one program, once. A failure is a result."""
    from scenarios import SCENARIOS as RUN
    from scenarios import Bench

    # The same random moments for every program, others in every round.
    bench = Bench(programs, impl, sizes, random.Random(f"{scenario} {turn}"))
    common = when(scenario, impl, turn)
    try:
        RUN[scenario](bench)
    except Exception as error:  # whatever a program does wrong, the others are still measured
        text = f"{type(error).__name__}: {error}"
        say(f"{scenario} of {impl} failed: {text}")
        out.add({**common, "error": text})
    for found in bench.found:
        out.add({**common, **found})


def run_floor(out: "Results", floor: str, sleep: str, counts: tuple[int, ...], turn: int) -> None:
    """The posix_spawn loop, for every number of workers."""
    for count in counts:
        ran = subprocess.run([floor, str(count), sleep, "1000000"], stdout=subprocess.PIPE, check=False)
        if ran.returncode != 0:
            say(f"the posix_spawn loop failed for {count} workers")
            return
        out.add({**when("startup", "floor", turn), "workers": count, "unit": "s", "values": [float(ran.stdout)]})


def when(scenario: str, impl: str, turn: int) -> dict:
    """What every record begins with."""
    return {"scenario": scenario, "impl": impl, "round": turn + 1, "load": os.getloadavg()[0], "at": time.time()}


class Results:
    """What was found, kept and written as it comes."""

    def __init__(self, path: str | None) -> None:
        self.records: list[dict] = []
        self._file = open(path, "w", encoding="utf-8") if path else None

    @property
    def failed(self) -> bool:
        return any("error" in record for record in self.records)

    def add(self, record: dict) -> None:
        self.records.append(record)
        if self._file:
            print(json.dumps(record), file=self._file, flush=True)

    def text(self, impls: tuple[str, ...]) -> str:
        return show(self.records, impls)


def show(records: list[dict], impls: tuple[str, ...]) -> str:
    """The tables, under a line that says of what."""
    from table import floor_table, table

    parts = [record["about"] for record in records if "about" in record]
    return "\n".join(parts + ["", table(records, impls), floor_table(records, impls)])


def about(programs, options: argparse.Namespace) -> dict:
    """What was run, where. Also lets each program run once, so that the first measured start reads no disk."""
    versions = {}
    commands = {
        "circus": [programs.in_venv("circusd"), "--version"],
        "supervisor": [programs.in_venv("supervisord"), "--version"],
        "circ": [programs.circ, "--version"],
    }
    for impl in options.impls:
        ran = subprocess.run(commands[impl], stdout=subprocess.PIPE, env=programs.environment, check=False)
        if ran.returncode != 0:
            sys.exit(f"{' '.join(commands[impl])} exits with {ran.returncode}")
        versions[impl] = ran.stdout.decode(errors="replace").split()[-1]
    load = os.getloadavg()[0]
    if load > 0.5:
        say(f"the machine is busy (load {load:.1f}): the numbers will scatter")
    text = ", ".join(f"{impl} {version}" for impl, version in versions.items())
    text += f"; {options.rounds} round{'s' * (options.rounds > 1)}"
    text += f"; {os.cpu_count()} processors, Linux {platform.release()}, Python {platform.python_version()}"
    text += f"; load {load:.1f} at the start"
    if options.quick:
        text += "; --quick: sizes too small to compare speed"
    return {"about": text, "versions": versions, "argv": sys.argv[1:]}


def say(text: str) -> None:
    """Tells the one who waits how far it is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
