"""
Watches a circus daemon and tells the event bus when something about it changes
===============================================================================

An event is sent when a condition begins and when it ends, not at every look:

========================================  ==================================================================
``salt/beacon/ID/circus/daemon/down``     nobody answers; ``daemon/up`` when somebody does again
``salt/beacon/ID/circus/web/down``        the watcher is stopped, or gave up, or is not there; then ``web/up``
``salt/beacon/ID/circus/web/flapping``    its workers do not stay, ``reason`` says how; then ``web/stable``
``salt/beacon/ID/circus/drift``           file, daemon and desired state differ, ``drift`` says in what;
                                          then ``compliant``
``salt/beacon/ID/circus/agent/failed``    the last runs of ``circ agent`` failed, or it is not there; then
                                          ``agent/ok``
========================================  ==================================================================

.. code-block:: yaml

    beacons:
      circus:
        - watchers:          # else all that the daemon has
          - web
          - worker
        - drift: True        # compare the configuration file with the daemon; or the path of a desired state
        - agent: True
        - config: /etc/circus.ini
        - interval: 30

``drift`` and ``agent`` are not looked at unless they are asked for. ``onchangeonly: False`` tells of a condition at
every look. ``config``, ``endpoint``, ``timeout`` and ``bin`` default to the minion's settings.
"""

import logging

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

__virtualname__ = "circus"

#: What was told last: {settings: {subject: condition}}.
TOLD = {}

#: Where the daemon is.
WHERE = ("bin", "config", "endpoint", "timeout")

#: What the beacon takes, with the types; Salt itself reads the others.
KEYS = {
    "watchers": (list,),
    "drift": (bool, str),
    "agent": (bool,),
    "onchangeonly": (bool,),
    "bin": (str,),
    "config": (str,),
    "endpoint": (str,),
    "timeout": (int, float),
}
SALTS_OWN = ("interval", "enabled", "disable_during_state_run", "beacon_module", "splay", "delay")


def __virtual__():
    return __virtualname__


def _settings(config):
    """
    The list of one-key mappings that a beacon's configuration is, as one mapping.
    """
    settings = {}
    for item in config:
        settings.update(item)
    return settings


def validate(config):
    """
    Is this a configuration of the beacon? ``(True, ...)``, or ``(False, why not)``.
    """
    if not isinstance(config, list) or not all(isinstance(item, dict) for item in config):
        return False, "Configuration for the circus beacon must be a list of dictionaries."
    for key, value in _settings(config).items():
        if key in SALTS_OWN or key.startswith("_"):
            continue
        if key not in KEYS:
            return False, "The circus beacon has no {!r}; it has {}.".format(key, ", ".join(KEYS))
        wrong = not isinstance(value, KEYS[key]) or (isinstance(value, bool) and bool not in KEYS[key])
        if wrong or (key == "watchers" and not all(isinstance(name, str) for name in value)):
            names = " or ".join(kind.__name__ for kind in KEYS[key])
            return False, "{} of the circus beacon must be of type {}.".format(key, names)
    return True, "Valid beacon configuration."


def beacon(config):
    """
    Looks once, and gives the events that are to be sent.
    """
    settings = _settings(config)
    where = {key: settings[key] for key in WHERE if key in settings}
    found = _daemon(settings, where)
    if settings.get("drift"):
        found["drift"] = _drift(settings["drift"], where)
    if settings.get("agent"):
        found["agent"] = _agent(where)
    told = TOLD.setdefault(repr(sorted(where.items())), {})
    events = []
    for subject, (condition, data) in found.items():
        if condition is None:
            # It could not be looked at; what was told of it stands.
            continue
        before = told.get(subject)
        told[subject] = condition
        if condition == before and (settings.get("onchangeonly", True) or _well(condition)):
            continue
        if before is None and _well(condition):
            # All is well at the first look: nothing to tell.
            continue
        events.append(dict(data, tag=condition, event=condition.rsplit("/", 1)[-1]))
    return events


def _well(condition):
    return condition.rsplit("/", 1)[-1] in ("up", "stable", "compliant", "ok")


def _daemon(settings, where):
    """
    How the daemon and its watchers are: ``{subject: (condition, what is told with it)}``.
    """
    try:
        statuses = __salt__["circus.status"](**where)
    except CommandExecutionError as error:
        return {"daemon": ("daemon/down", {"reason": str(error)})}
    found = {"daemon": ("daemon/up", {})}
    known = {name.lower(): name for name in statuses}
    for name in settings.get("watchers") or sorted(statuses):
        real = known.get(name.lower())
        if real is None:
            found[name, "up"] = (name + "/down", {"watcher": name, "reason": "the daemon has no such watcher"})
            continue
        status, details = statuses[real], {}
        try:
            details = __salt__["circus.status"](real, details=True, **where)
        except CommandExecutionError as error:
            log.debug("circus beacon: %s: %s", real, error)
        data = {"watcher": name, "status": status}
        if details.get("last_exit"):
            data["last_exit"] = details["last_exit"]
        trouble = details.get("trouble")
        up = status in ("active", "starting", "stopping")
        down = dict(data, reason=trouble or "the watcher is {}".format(status))
        found[name, "up"] = (name + "/up", data) if up else (name + "/down", down)
        if up:
            found[name, "stable"] = (
                (name + "/flapping", dict(data, reason=trouble)) if trouble else (name + "/stable", data)
            )
    return found


def _drift(desired, where):
    """
    Does the daemon comply with its file, or with a desired state?
    """
    source = desired if isinstance(desired, str) else None
    try:
        report = __salt__["circus.state_test"](source=source, **where)
    except CommandExecutionError as error:
        log.warning("circus beacon: drift cannot be told: %s", error)
        return None, {}
    if report.get("failed"):
        log.debug("circus beacon: drift cannot be told: %s", report.get("error"))
        return None, {}
    if report["changed"]:
        return "drift", {"drift": report["changes"], "reason": report["msg"]}
    return "compliant", {}


def _agent(where):
    """
    Did the agent's last run succeed?
    """
    try:
        status = __salt__["circus.agent_status"](**where)
    except CommandExecutionError as error:
        return "agent/failed", {"reason": str(error)}
    if status.get("failures"):
        last = status.get("last") or {}
        reason = last.get("msg") or last.get("desired_error") or "its last run failed"
        return "agent/failed", {"failures": status["failures"], "reason": reason}
    return "agent/ok", {}
