"""One line of JSON for each result of a task, and one for each host at the end: what the tests read."""

import json

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: lines
type: stdout
short_description: Results as lines of JSON
description: Results as lines of JSON.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "lines"

    def say(self, **line):
        print(json.dumps(line, default=str), flush=True)

    def task(self, result, kind):
        self.say(
            host=result._host.get_name(),
            task=result._task.get_name(),
            kind=kind,
            # Ansible takes the word out of a failure.
            result=dict(result._result, failed=kind in ("failed", "ignored")),
        )

    def v2_runner_on_ok(self, result):
        self.task(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self.task(result, "ignored" if ignore_errors else "failed")

    def v2_runner_on_skipped(self, result):
        self.task(result, "skipped")

    def v2_runner_on_unreachable(self, result):
        self.task(result, "unreachable")

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            self.say(recap=host, **stats.summarize(host))
