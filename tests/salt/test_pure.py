"""What of the Salt modules needs no Salt that runs."""

import importlib.util
import os
import unittest

from salt.exceptions import CommandExecutionError

HOME = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "modules", "salt")


def load(kind):
    """One of the modules, by the directory it is in."""
    spec = importlib.util.spec_from_file_location("circus" + kind, os.path.join(HOME, kind, "circus.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Utils(unittest.TestCase):
    utils = load("_utils")

    def test_what_is_given_wins_over_the_settings(self):
        defaults = {"config": "/a.ini", "endpoint": "tcp://h:1", "timeout": 3}
        chosen = self.utils.settings(defaults, config=None, timeout=None)
        self.assertEqual(chosen, {"bin": None, "config": "/a.ini", "endpoint": "tcp://h:1", "timeout": 3})
        chosen = self.utils.settings(defaults, config="/b.ini")
        self.assertEqual((chosen["config"], chosen["endpoint"], chosen["timeout"]), ("/b.ini", None, 3))

    def test_one_place_for_the_control_commands(self):
        chosen = {"config": "/a.ini", "endpoint": "tcp://h:1", "timeout": 3}
        self.assertEqual(self.utils.where(chosen, control=True), ["--endpoint", "tcp://h:1", "--timeout", "3"])
        self.assertIn("--config", self.utils.where(chosen))

    def test_no_word_passes_for_an_option(self):
        self.assertEqual(self.utils.word(-2), "-2")
        for text in ("--endpoint=x", "-x"):
            with self.assertRaises(CommandExecutionError):
                self.utils.word(text)

    def test_schemas(self):
        self.utils.known({"schema": "circ.state/1"}, "circ")
        for schema, word in (("circ.state/0", "older"), ("circ.state/12", "newer"), (None, "is this circ")):
            with self.assertRaisesRegex(CommandExecutionError, word):
                self.utils.known({"schema": schema}, "circ")

    def test_a_program_that_does_not_end_is_ended(self):
        with self.assertRaisesRegex(CommandExecutionError, "did not end within 0.1 s"):
            self.utils.run(["sleep", "1000"], limit=0.1)


class States(unittest.TestCase):
    states = load("_states")

    def report(self, **keys):
        report = {"resource": "watcher", "failed": False, "changed": True, "check": False, "msg": "web: done"}
        report.update({"changes": {"numprocesses": {"old": 1, "new": 2}}}, **keys)
        return report

    def test_results(self):
        for keys, result in (
            ({}, True),
            ({"check": True}, None),
            ({"check": True, "changed": False}, True),
            ({"failed": True}, False),
            ({"failed": True, "check": True}, False),
        ):
            self.assertIs(self.states._returned("web", self.report(**keys))["result"], result, keys)
        self.assertEqual(self.states._returned("web", self.report(changed=False))["changes"], {})

    def test_the_changes_of_the_state_itself_come_first(self):
        changes = {"socket:s": {"port": {"old": None, "new": "1"}}, "web": {"cmd": {"old": None, "new": "x"}}}
        returned = self.states._returned("web", self.report(resource="state", changes=changes), "web")
        self.assertEqual(returned["changes"], {"socket:s": changes["socket:s"], "cmd": changes["web"]["cmd"]})

    def test_standard_input_is_no_place_to_look(self):
        failed = self.report(resource="state", failed=True, changed=False, error="-:1: a: b\nx: c", resources=[])
        self.assertEqual(self.states._returned("web", failed)["comment"], "a: b\nx: c")

    def test_sockets(self):
        self.assertEqual(self.states._socket("s", "[::1]:80"), {"host": "::1", "port": 80})
        self.assertEqual(self.states._socket("s", "unix:/run/s"), {"path": "/run/s"})
        with self.assertRaises(ValueError):
            self.states._socket("s", "8080")


class Beacon(unittest.TestCase):
    def setUp(self):
        self.beacon = load("_beacons")
        self.statuses, self.details = {"web": "active"}, {}
        self.report = {"failed": False, "changed": False, "changes": {}, "msg": "drifted"}

        def status(name=None, details=False, **where):
            if self.statuses is None:
                raise CommandExecutionError("nobody listens")
            return dict(self.details, status="active") if details else self.statuses

        self.beacon.__salt__ = {
            "circus.status": status,
            "circus.state_test": lambda source=None, **where: self.report,
            "circus.agent_status": lambda **where: {"failures": 0},
        }

    def tags(self, *more):
        return [event["tag"] for event in self.beacon.beacon([{"watchers": ["web"]}, {"drift": True}] + list(more))]

    def test_what_changes_is_told_once(self):
        self.assertEqual(self.tags(), [])
        self.details = {"trouble": "worker 1 exited with code 3, 5 times in a row"}
        self.assertEqual(self.tags(), ["web/flapping"])
        self.assertEqual(self.tags(), [])
        self.assertEqual(self.tags({"onchangeonly": False}), ["web/flapping"])
        self.details, self.report = {}, dict(self.report, changed=True)
        self.assertEqual(self.tags(), ["web/stable", "drift"])
        self.statuses, self.report = {"web": "stopped"}, dict(self.report, failed=True)
        self.assertEqual(self.tags(), ["web/down"])
        self.statuses = None
        self.assertEqual(self.tags(), ["daemon/down"])
        self.statuses, self.report = {"Web": "active"}, dict(self.report, failed=False, changed=False)
        self.assertEqual(self.tags(), ["daemon/up", "web/up", "compliant"])
        self.statuses = {}
        self.assertEqual(self.tags(), ["web/down"])

    def test_configurations(self):
        for config, good in (
            ([], True),
            ([{"watchers": ["web"]}, {"drift": "/a.toml"}, {"interval": 5}], True),
            ({"watchers": ["web"]}, False),
            ([{"watcher": "web"}], False),
            ([{"watchers": "web"}], False),
            ([{"watchers": [1]}], False),
            ([{"timeout": True}], False),
        ):
            self.assertEqual(self.beacon.validate(config)[0], good, config)


class Engine(unittest.TestCase):
    def test_topics_become_tags(self):
        engine = load("_engines")
        for topic, path in (
            ("watcher.web.reap", "web/reap"),
            ("watcher.web.v2.spawn", "web.v2/spawn"),
            ("socket.gone", "socket/gone"),
        ):
            self.assertEqual(engine.path(topic), path)

    def test_lines_become_events(self):
        engine, sent = load("_engines"), []
        engine.__opts__ = {"id": "m"}
        for line in ('{"topic": "watcher.web.reap", "payload": {"exit_code": 1}}', "no JSON", "[]"):
            engine._forward(line, "t", lambda tag, data: sent.append((tag, data)))
        self.assertEqual(sent, [("t/m/web/reap", {"exit_code": 1, "topic": "watcher.web.reap"})])


if __name__ == "__main__":
    unittest.main()
