"""The programs that are compared: how each is configured, started, asked and ended."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from dataclasses import dataclass

import zmq

from watching import Family, Late, now, parent, read

PATIENCE = 90.0
"""Seconds until something that must happen counts as failed."""


class Failed(Exception):
    """A program answered with an error, or did not do what it was asked."""


@dataclass(frozen=True)
class Group:
    """A watcher (circus, circ) or program (supervisor) with `count` workers."""

    name: str
    count: int
    autostart: bool = True
    """Whether the workers are started with the daemon."""


# -- asking ------------------------------------------------------------------------------------------------------


class CircusClient:
    """Circus's protocol on one DEALER socket."""

    def __init__(self, endpoint: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        # The daemon may not listen yet: look again after 1 ms, not after zmq's 100.
        self.socket.setsockopt(zmq.RECONNECT_IVL, 1)
        self.socket.connect(endpoint)

    def send(self, message: bytes) -> None:
        """Sends a message that `Circus.request` made; with nobody listening it waits in the socket."""
        self.socket.send(message)

    def answered(self, seconds: float) -> bool:
        """Waits so long for an answer to arrive; whether it has."""
        return bool(self.socket.poll(int(seconds * 1000)))

    def receive(self) -> bytes:
        """The answer that has arrived."""
        return self.socket.recv_multipart()[-1]

    def close(self) -> None:
        self.socket.close(0)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class SupervisorClient:
    """Supervisor's XML-RPC on one kept-alive connection to its Unix socket."""

    def __init__(self, path: str) -> None:
        self._connection = _UnixConnection(path)
        self._unsent: bytes | None = None

    def send(self, message: bytes) -> None:
        """Sends a message that `Supervisor.request` made; with nobody listening it waits here."""
        try:
            self._connection.request("POST", "/RPC2", message, {"Content-Type": "text/xml"})
            self._unsent = None
        except (FileNotFoundError, ConnectionError):
            self._connection.close()
            self._unsent = message

    def answered(self, seconds: float) -> bool:
        """Waits so long for an answer to arrive; whether it has."""
        if self._unsent is not None:
            self.send(self._unsent)
        poller = zmq.Poller()
        if self._unsent is None:
            poller.register(self._connection.sock.fileno(), zmq.POLLIN)
            return bool(poller.poll(int(seconds * 1000)))
        # Nobody listens yet: the same pause as between two tries of zmq.
        time.sleep(seconds)
        return False

    def receive(self) -> bytes:
        """The answer that has arrived."""
        return self._connection.getresponse().read()

    def close(self) -> None:
        self._connection.close()


# -- running -----------------------------------------------------------------------------------------------------


class Daemon:
    """One daemon in a directory of its own. As a context manager it ends everything it started."""

    impl = ""

    def __init__(self, programs: "Programs", groups: list[Group]) -> None:
        self.programs, self.groups = programs, groups
        self.directory = tempfile.mkdtemp(prefix=f"circ-bench-{self.impl}-")
        self.family = Family()
        self.started = 0.0
        self.statistics = False
        """Whether it publishes statistics, at `stats_endpoint` (circus and circ)."""
        self.stats_endpoint = ""
        self._process: subprocess.Popen | None = None
        self._client = None

    # What differs between the programs:

    def configure(self) -> None:
        """Writes the configuration into the directory."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The command that runs the daemon in the foreground."""
        raise NotImplementedError

    def cli(self, *words: str) -> list[str]:
        """The command of the program's own control client."""
        raise NotImplementedError

    def connect(self):
        """A new client."""
        raise NotImplementedError

    def load_address(self) -> list[str]:
        """What `load.py` takes to reach the daemon: protocol and address."""
        raise NotImplementedError

    def request(self, name: str, /, **properties: object) -> bytes:
        """One of the requests that have a meaning for all programs, as the bytes to send."""
        raise NotImplementedError

    def check(self, answer: bytes) -> object:
        """The answer's content. Raises Failed if it tells of an error."""
        raise NotImplementedError

    def settled(self) -> bool:
        """Whether the daemon says of itself that it has done all it was started for."""
        raise NotImplementedError

    # What is common:

    @property
    def pid(self) -> int:
        """The daemon's pid."""
        assert self._process
        return self._process.pid

    @property
    def client(self):
        """The client of this daemon that everybody shares."""
        if self._client is None:
            self._client = self.connect()
        return self._client

    def launch(self) -> None:
        """Starts the daemon and notes the moment."""
        self.configure()
        with open(os.path.join(self.directory, "output"), "wb") as output:
            self.started = now()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                env=self.programs.environment,
                start_new_session=True,
            )

    def up(self) -> "Daemon":
        """Starts the daemon and waits until all workers run and it says that it is done starting."""
        self.launch()
        count = sum(group.count for group in self.groups if group.autostart)
        while len(self.family.workers()) < count:
            self.still_runs(self.started + PATIENCE, f"not all of {count} workers run")
            time.sleep(0.01)
        while not self.settled():
            self.still_runs(self.started + PATIENCE, "the daemon does not say that it is done starting")
            time.sleep(0.05)
        return self

    def still_runs(self, deadline: float, otherwise: str) -> None:
        """For loops that wait: raises Failed if the daemon has ended, and Late with that text after the deadline."""
        assert self._process
        if self._process.poll() is not None:
            raise Failed(f"the daemon ended with exit code {self._process.returncode}")
        if now() > deadline:
            raise Late(otherwise)

    def ask(self, name: str, /, **properties: object) -> object:
        """Sends a request and waits for the content of its answer."""
        self.client.send(self.request(name, **properties))
        if not self.client.answered(PATIENCE):
            raise Late(f"no answer to {name}")
        return self.check(self.client.receive())

    def terminate(self) -> None:
        """Sends SIGTERM to the daemon alone."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)

    def __enter__(self) -> "Daemon":
        return self

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, Exception):
            # The directory goes now, so this is the only trace.
            words = read(os.path.join(self.directory, "output"))[-1500:]
            print(f"the last that {self.impl} wrote:\n{words}", file=sys.stderr, flush=True)
        if self._client is not None:
            self._client.close()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        end_orphans()
        shutil.rmtree(self.directory, ignore_errors=True)


class Circus(Daemon):
    """circusd, and all that reads its file and speaks its protocol."""

    impl = "circus"

    def configure(self) -> None:
        ports = free_ports(3)
        self.endpoint = f"tcp://127.0.0.1:{ports[0]}"
        self.file = os.path.join(self.directory, "circus.ini")
        lines = [
            "[circus]",
            f"endpoint = {self.endpoint}",
            f"pubsub_endpoint = tcp://127.0.0.1:{ports[1]}",
            # Nothing leaves the loopback interface.
            "multicast_endpoint =",
        ]
        if self.statistics:
            self.stats_endpoint = f"tcp://127.0.0.1:{ports[2]}"
            lines += ["statsd = True", f"stats_endpoint = {self.stats_endpoint}"]
        for group in self.groups:
            lines += [f"[watcher:{group.name}]", f"cmd = {self.programs.sleep} 1000000"]
            lines += [f"numprocesses = {group.count}"]
            lines += [] if group.autostart else ["autostart = False"]
        write(self.file, lines)

    def command(self) -> list[str]:
        return [self.programs.in_venv("circusd"), self.file]

    def cli(self, *words: str) -> list[str]:
        return [self.programs.in_venv("circusctl"), "--endpoint", self.endpoint, *words]

    def connect(self) -> CircusClient:
        return CircusClient(self.endpoint)

    def load_address(self) -> list[str]:
        return ["circus", self.endpoint]

    def request(self, name: str, /, **properties: object) -> bytes:
        return json.dumps({"id": "1", "command": name, "properties": properties}).encode()

    def check(self, answer: bytes) -> object:
        content = json.loads(answer)
        if content.get("status") == "error":
            raise Failed(f"{self.impl} answered: {content.get('reason')}")
        return content

    def settled(self) -> bool:
        # circusd refuses every command that changes something while it is starting. This one changes nothing.
        first = next(group for group in self.groups if group.autostart)
        try:
            self.ask("start", name=first.name, waiting=True)
        except Failed:
            return False
        return True


class Circ(Circus):
    """circ, on the same file and protocol as circusd."""

    impl = "circ"

    def command(self) -> list[str]:
        return [self.programs.circ, "daemon", self.file]

    def cli(self, *words: str) -> list[str]:
        return [self.programs.circ, "--endpoint", self.endpoint, *words]


class Supervisor(Daemon):
    """supervisord."""

    impl = "supervisor"
    # The nearest thing supervisor has to circus's request; what has none is not compared.
    METHODS = {
        "numwatchers": "supervisor.getState",
        "status": "supervisor.getAllProcessInfo",
        "start": "supervisor.startProcessGroup",
        "stop": "supervisor.stopProcessGroup",
    }

    def configure(self) -> None:
        self.file = os.path.join(self.directory, "supervisord.conf")
        self.socket = os.path.join(self.directory, "socket")
        workers = sum(group.count for group in self.groups)
        lines = [
            "[unix_http_server]",
            f"file = {self.socket}",
            "[supervisord]",
            "nodaemon = true",
            "silent = true",
            f"logfile = {self.directory}/log",
            f"pidfile = {self.directory}/pid",
            # Each worker costs supervisord up to three pipes, and each child closes all of this number one by one:
            # no more than needed.
            f"minfds = {max(1024, 4 * workers + 64)}",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "[supervisorctl]",
            f"serverurl = unix://{self.socket}",
        ]
        for group in self.groups:
            lines += [
                f"[program:{group.name}]",
                f"command = {self.programs.sleep} 1000000",
                f"numprocs = {group.count}",
                "process_name = %(program_name)s_%(process_num)d",
                "autorestart = true",
                f"autostart = {str(group.autostart).lower()}",
                "stdout_logfile = NONE",
                "stderr_logfile = NONE",
            ]
            # A group that is started on request answers when its workers run, not a second later.
            lines += [] if group.autostart else ["startsecs = 0"]
        write(self.file, lines)

    def command(self) -> list[str]:
        return [self.programs.in_venv("supervisord"), "-n", "-c", self.file]

    def cli(self, *words: str) -> list[str]:
        return [self.programs.in_venv("supervisorctl"), "-c", self.file, *words]

    def connect(self) -> SupervisorClient:
        return SupervisorClient(self.socket)

    def load_address(self) -> list[str]:
        return ["supervisor", self.socket]

    def request(self, name: str, /, **properties: object) -> bytes:
        # Both group methods take whether to wait for the end.
        words = (properties["name"], bool(properties.get("waiting"))) if properties else ()
        return xmlrpc.client.dumps(words, self.METHODS[name]).encode()

    def check(self, answer: bytes) -> object:
        try:
            return xmlrpc.client.loads(answer)[0][0]
        except xmlrpc.client.Fault as fault:
            raise Failed(f"supervisor answered: {fault.faultString}") from fault

    def settled(self) -> bool:
        # STARTING lasts for startsecs (1 s); a worker killed in it would count as one that cannot start.
        return all(process["statename"] in ("RUNNING", "STOPPED") for process in self.ask("status"))


DAEMONS = {"circus": Circus, "supervisor": Supervisor, "circ": Circ}


@dataclass(frozen=True)
class Programs:
    """Where the programs are."""

    circ: str
    venv: str
    sleep: str
    environment: dict[str, str]

    def in_venv(self, name: str) -> str:
        """The path of a program of the Python environment."""
        return os.path.join(self.venv, "bin", name)

    def daemon(self, impl: str, groups: list[Group]) -> Daemon:
        """A daemon of that program, not started yet."""
        return DAEMONS[impl](self, groups)


# -- ending ------------------------------------------------------------------------------------------------------


def become_subreaper() -> None:
    """Whatever a dead daemon leaves behind becomes a child of this process (PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(36, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become the reaper of orphaned workers (prctl)")


def end_orphans() -> None:
    """Kills and reaps what a dead daemon has left.

    Only children of this process are ever signalled. A child's pid stays taken until it is reaped here, so no
    process of anybody else can be hit. Grandchildren become children when their parents die.
    """
    while children := direct_children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def direct_children() -> list[int]:
    """The children of this process, zombies too."""
    me = os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent(pid) == me]


# -- small things ------------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def write(path: str, lines: list[str]) -> None:
    """Writes a file of lines."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
