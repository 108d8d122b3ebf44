"""Looking at a daemon from outside: its workers, its processor time, its memory. Reads /proc and sends nothing."""

from __future__ import annotations

import os
import re
import select
import signal
import time

now = time.monotonic

WORKER = "sleep"
"""What a worker is called once it runs. Before its exec it still bears the daemon's name, and does not count."""


def read(path: str) -> str:
    """The text of a file of /proc; empty if its process is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parent(pid: int) -> int | None:
    """The parent of a process; None if it is gone."""
    text = read(f"/proc/{pid}/stat")
    # The name stands in brackets and may hold blanks and brackets itself.
    return int(text[text.rfind(")") + 2 :].split()[1]) if text else None


def pids() -> set[int]:
    """All processes of the machine."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


class Family:
    """The processes that descend from this one, found anew by listing /proc.

    Make it before the daemon is started. The harness is a subreaper, so a process whose parent died is still found
    here. Only pids not seen before are opened: looking at 1,000 workers again costs one listing.
    """

    def __init__(self) -> None:
        me = os.getpid()
        self._kin = {me}
        self._strangers = pids() - {me}
        self._workers: set[int] = set()

    def workers(self) -> set[int]:
        """The workers there are now. One that ended counts until its daemon has reaped it."""
        present = pids()
        self._kin &= present
        self._strangers &= present
        self._workers &= present
        for pid in sorted(present - self._kin - self._strangers):
            of = parent(pid)
            if of in self._kin:
                self._kin.add(pid)
            elif of in self._strangers:
                self._strangers.add(pid)
            # Else the parent is not judged yet (pids wrap around): the next look tells.
        for pid in self._kin - self._workers:
            if pid != os.getpid() and read(f"/proc/{pid}/comm").strip() == WORKER:
                self._workers.add(pid)
        return set(self._workers)

    def managers(self) -> list[int]:
        """The daemon's own processes: all that were started, but for the workers."""
        workers = self.workers()
        return sorted(self._kin - workers - {os.getpid()})


class Late(Exception):
    """Something did not happen in time. The text says how far it got."""


class Endings:
    """Waits for processes to end by pidfd: told by the kernel at once, and never by a pid that another took over."""

    def __init__(self, watched: set[int]) -> None:
        self._poll = select.epoll()
        self._open: set[int] = set()
        for pid in watched:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            self._open.add(fd)
            self._poll.register(fd, select.EPOLLIN)

    def __enter__(self) -> "Endings":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._open:
            os.close(fd)
        self._poll.close()

    def wait(self, left: int, deadline: float) -> float:
        """When (on the monotonic clock) no more than `left` of the processes lived. Raises Late at the deadline."""
        while len(self._open) > left:
            remaining = deadline - now()
            if remaining <= 0:
                raise Late(f"{len(self._open)} processes live, {left} shall")
            for fd, _ in self._poll.poll(remaining):
                self._poll.unregister(fd)
                os.close(fd)
                self._open.discard(fd)
        return now()


def kill_worker(pid: int) -> None:
    """Kills a worker, and nobody else: by a pidfd that was opened before it was seen to be one."""
    fd = os.pidfd_open(pid)
    try:
        if read(f"/proc/{pid}/comm").strip() != WORKER:
            raise Late(f"{pid} is no worker any more")
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    finally:
        os.close(fd)


def processor_seconds(of: list[int]) -> float:
    """Processor time of processes with all their threads, ended ones too, in seconds (resolution: nanoseconds)."""
    # The number of a process's clock, as clock_getcpuclockid(3) makes it (CPUCLOCK_SCHED = 2).
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in of)


def wake_ups(of: list[int]) -> int:
    """How often the threads of processes have gone to sleep by themselves, which is how often something woke them."""
    total = 0
    for pid in of:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", read(f"/proc/{pid}/task/{thread}/status"), re.M)
            total += int(found.group(1)) if found else 0
    return total


def memory(of: list[int]) -> dict[str, int]:
    """Memory of processes together, in bytes: `pss` (shared pages divided by their users) and `private`."""
    total = {"pss": 0, "private": 0}
    for pid in of:
        text = read(f"/proc/{pid}/smaps_rollup")
        for key, field in (("pss", "Pss"), ("private", "Private_Clean"), ("private", "Private_Dirty")):
            found = re.search(rf"^{field}:\s+(\d+) kB", text, re.M)
            if not found:
                raise OSError(f"/proc/{pid}/smaps_rollup does not tell {field}")
            total[key] += 1024 * int(found.group(1))
    return total
