"""
Forwards the events of a circus daemon to Salt's event bus
==========================================================

On a minion they go to the master, on a master to its own bus, under the tag ``salt/engine/circus/ID/web/reap`` (the
watcher and what happened), with the daemon's data:

.. code-block:: yaml

    engines:
      - circus:
          config: /etc/circus.ini
          topics:            # beginnings of topics; everything without it
            - watcher.web.

``config``, ``endpoint`` and ``bin`` default to the minion's settings, see the execution module. While there is no
daemon, it is looked for again after a pause that grows from 1 to 60 seconds.
"""

import json
import logging
import subprocess
import time

import salt.utils.event
from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "circus"

#: Seconds between two tries to follow the events: at first, and at most.
PAUSES = (1.0, 60.0)


def __virtual__():
    return __virtualname__


def start(topics=None, tag="salt/engine/circus", config=None, endpoint=None, bin=None):
    """
    Follows the events for as long as the engine lives.

    topics
        A list of beginnings of topics, such as ``watcher.web.``.

    tag
        What the tags begin with.
    """
    send = _sender()
    pause = PAUSES[0]
    while True:
        try:
            argv = __salt__["circus.command"](
                "listen", "--json", *(topics or []), config=config, endpoint=endpoint, bin=bin
            )
            heard = _follow(argv, lambda line: _forward(line, tag, send))
        except (CommandExecutionError, OSError) as error:
            log.warning("circus engine: %s", error)
            heard = 0
        pause = PAUSES[0] if heard else min(pause * 2, PAUSES[1])
        time.sleep(pause)


def _follow(argv, each):
    """
    Runs ``circ listen`` and hands on its lines until it ends; how many there were.
    """
    heard = 0
    child = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    try:
        for line in child.stdout:
            heard += 1
            each(line)
        log.warning("circus engine: `%s` ended: %s", " ".join(argv), child.stderr.read().strip())
    finally:
        # Also when the engine is told to end: no listener outlives it.
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()
    return heard


def _forward(line, tag, send):
    """
    One line of ``circ listen --json`` as an event.
    """
    try:
        event = json.loads(line)
        topic, payload = event["topic"], event["payload"]
    except (ValueError, KeyError, TypeError):
        log.warning("circus engine: not an event: %s", line.strip())
        return
    data = dict(payload) if isinstance(payload, dict) else {"payload": payload}
    data["topic"] = topic
    send("{}/{}/{}".format(tag, __opts__["id"], path(topic)), data)


def path(topic):
    """
    A topic of circus as the end of a tag: ``watcher.web.reap`` becomes ``web/reap``.
    """
    kind, _, rest = topic.partition(".")
    name, dot, action = rest.rpartition(".")
    if kind == "watcher" and dot:
        return "{}/{}".format(name, action)
    return topic.replace(".", "/")


def _sender():
    """
    What sends an event from where the engine runs.
    """
    if __opts__.get("__role") == "master":
        bus = salt.utils.event.get_master_event(__opts__, __opts__["sock_dir"], listen=False)
        return lambda tag, data: bus.fire_event(data, tag)
    return lambda tag, data: __salt__["event.send"](tag, data)
