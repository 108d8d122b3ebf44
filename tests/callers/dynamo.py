"""What a program like NVIDIA's Dynamo does: each of its workers is a watcher of its own, added and removed at run time by
several controllers at once, each waiting for a worker to leave by itself before it removes the watcher.

Arguments: endpoint, directory, how often a controller may be told that the daemon is busy.
"""
import os
import sys
import threading
import time

from circus.client import CircusClient
from circus.exc import CallError

endpoint, home, patience = sys.argv[1], sys.argv[2], int(sys.argv[3])
CONTROLLERS, WORKERS = 4, 3
failures = []


class Controller:
    def __init__(self, number):
        self.number = number
        self.client = CircusClient(endpoint=endpoint, timeout=60)

    def ask(self, command, **properties):
        """The answer to one command; where the daemon may be busy it is sent again."""
        for attempt in range(patience + 1):
            answer = self.client.send_message(command, **properties)
            if answer.get("status") == "ok" or "already running" not in answer.get("reason", ""):
                break
            assert attempt < patience, answer
            time.sleep(0.05)
        return answer

    def send(self, command, **properties):
        """One command, which must be done."""
        answer = self.ask(command, **properties)
        assert answer["status"] == "ok", (command, answer)
        return answer

    def add(self, name, **options):
        """The worker ends when its file is there."""
        stop = os.path.join(home, name + ".stop")
        options = dict({"copy_env": True, "stop_children": True, "graceful_timeout": 86400, "respawn": False,
                        "env": {"STOP": stop, "CUDA_VISIBLE_DEVICES": str(self.number)}}, **options)
        cmd = "sh -c 'echo $CUDA_VISIBLE_DEVICES > $STOP.seen; while ! [ -e $STOP ]; do sleep 0.02; done'"
        self.send("add", name=name, cmd=cmd, args=[], options=options, start=True)
        return stop

    def processes(self, name):
        return int(self.send("numprocesses", name=name).get("numprocesses", 0))

    def watchers(self):
        return self.send("list").get("watchers", [])

    def remove(self, name, nostop=False):
        self.until("%s to leave" % name, lambda: self.processes(name) == 0)
        self.send("rm", name=name, nostop=nostop, waiting=True)
        self.until("%s to be gone" % name, lambda: name not in self.watchers())

    def until(self, what, probe):
        end = time.monotonic() + 60
        while not probe():
            assert time.monotonic() < end, what
            time.sleep(0.05)

    def run(self):
        try:
            names = ["dynamo_worker_%d_%d" % (self.number, at) for at in range(WORKERS)]
            stops = [self.add(name) for name in names]
            for name, stop in zip(names, stops):
                self.until("%s to run" % name, lambda: self.processes(name) == 1)
                self.until("its environment", lambda: os.path.exists(stop + ".seen"))
                assert name in self.watchers()
            for name, stop in zip(names, stops):
                with open(stop, "w"):
                    pass
                self.remove(name)
                with open(stop + ".seen") as seen:
                    assert seen.read().strip() == str(self.number)
        except (AssertionError, CallError) as error:
            failures.append("controller %d: %r" % (self.number, error))
        finally:
            self.client.stop()


threads = [threading.Thread(target=Controller(number).run) for number in range(CONTROLLERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures

# A second watcher of the same name is refused, with a reason.
controller = Controller(9)
controller.add("twice")
answer = controller.ask("add", name="twice", cmd="sleep 1000", args=[], options={}, start=True)
assert answer["status"] == "error" and "exist" in answer["reason"], answer
# One that hangs is removed with its process.
controller.send("rm", name="twice", waiting=True, nostop=True)
controller.until("twice to be gone", lambda: "twice" not in controller.watchers())
with open(os.path.join(home, "twice.stop"), "w"):
    pass
controller.client.stop()
