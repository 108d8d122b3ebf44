"""
Control a circus daemon and bring it to a desired state, through the ``circ`` binary
====================================================================================

:maturity: new
:depends: the ``circ`` binary (one static file, no Python)
:platform: Linux

Every function takes ``config`` (the circus.ini or circus.toml, whose ``[circus]`` section says where the daemon is),
``endpoint`` (the daemon's control endpoint, which wins over the file's), ``timeout`` (seconds) and ``bin`` (the
binary). Their defaults stand in the minion's configuration or in pillar:

.. code-block:: yaml

    circus:
      bin: /usr/local/bin/circ
      config: /etc/circus.ini
      endpoint: tcp://127.0.0.1:5555
      timeout: 5

The daemon may be circ's own or Python's circusd. The binary is looked for when a function is called, so that a state of
the same run may have brought it.
"""

import os

import salt.utils.args
from salt.exceptions import CommandExecutionError, SaltInvocationError

__virtualname__ = "circus"

__func_alias__ = {
    "list_": "list",
    "set_": "set",
}


def __virtual__():
    return __virtualname__


def _shared(name):
    """
    A function of what the circus modules share. Salt's loader finds it in a file_roots, and not in a package.
    """
    if "circus." + name in __utils__:
        return __utils__["circus." + name]
    from saltext.circus.utils import circus as package

    return getattr(package, name)


def _settings(bin=None, config=None, endpoint=None, timeout=None):
    """
    What was given, and the minion's settings for the rest.
    """
    defaults = {key: __salt__["config.get"]("circus:" + key, None) for key in ("bin", "config", "endpoint", "timeout")}
    return _shared("settings")(defaults, bin=bin, config=config, endpoint=endpoint, timeout=timeout)


def _control(command, words=(), switches=(), **where):
    """
    One command of the daemon, and its reply without what belongs to the exchange alone.
    """
    reply = _shared("control")(_settings(**where), command, [w for w in words if w is not None], switches)
    return {key: value for key, value in reply.items() if key not in ("id", "time")}


def _done(reply):
    """
    What a command that acts has to tell: the processes it touched if the daemon says so, else True.
    """
    if "info" in reply:
        return reply["info"]
    told = {key: reply[key] for key in ("started", "kept", "stopped") if key in reply}
    return told or True


def _waiting(waiting):
    return ["--waiting"] if waiting else []


def _pairs(options):
    """
    Options as the command line writes them: ``key=value``.
    """
    pairs = []
    for key, value in options.items():
        if isinstance(value, dict):
            value = ",".join("{}={}".format(name, text) for name, text in value.items())
        elif isinstance(value, (list, tuple)):
            value = " ".join(str(item) for item in value)
        pairs.append("{}={}".format(key, "" if value is None else value))
    return pairs


def settings(bin=None, config=None, endpoint=None, timeout=None):
    """
    Which binary, file, endpoint and timeout a call with these arguments uses; None where circ's own default counts.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.settings
    """
    return _settings(bin, config, endpoint, timeout)


def missing(bin=None, config=None, endpoint=None, timeout=None):
    """
    What is not there yet that a call with these arguments needs, in words: the binary, or the configuration file. None
    if both are there.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.missing
    """
    chosen = _settings(bin, config, endpoint, timeout)
    _, looked = _shared("look")(chosen["bin"])
    if looked:
        return "the circ binary is not there yet (looked in {})".format(looked)
    if chosen["config"] and not os.path.exists(chosen["config"]):
        return "{} is not there yet".format(chosen["config"])
    return None


def version(bin=None, config=None, endpoint=None, timeout=None):
    """
    The version of the binary.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.version
    """
    chosen = _settings(bin, config, endpoint, timeout)
    argv = [_shared("find")(chosen["bin"]), "--version"]
    code, out, err = _shared("run")(argv)
    words = out.split()
    if code != 0 or len(words) != 2 or words[0] != "circ":
        raise CommandExecutionError("`{} --version` does not answer as circ: {}".format(argv[0], (out + err).strip()))
    return words[1]


def identity(config=None, endpoint=None, timeout=None, bin=None):
    """
    Who answers: program, version, process and configuration files. Only circ's own daemon knows this command.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.identity
    """
    reply = _control("identity", config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    reply.pop("status", None)
    return reply


def list_(watcher=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    The names of all watchers, or the pids of one watcher's processes.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.list
        salt '*' circus.list web
    """
    reply = _control("list", [watcher], config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    return reply["pids" if watcher is not None else "watchers"]


def status(watcher=None, details=False, config=None, endpoint=None, timeout=None, bin=None):
    """
    ``{watcher: "active" or "stopped"}``, of all watchers or of one.

    details
        Of one watcher: all that the daemon knows, ``{"status": ..., "trouble": ..., "last_exit": ...}`` (the latter
        two if there is something to tell, and only by circ's own daemon).

    CLI Example:

    .. code-block:: bash

        salt '*' circus.status
        salt '*' circus.status web details=True
    """
    reply = _control("status", [watcher], config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    if watcher is None:
        return reply["statuses"]
    return reply if details else {watcher: reply["status"]}


def stats(watcher=None, pid=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    CPU and memory use: ``{watcher: {pid: {...}}}``, of one watcher ``{pid: {...}}``, of one process ``{...}``.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.stats
        salt '*' circus.stats web
        salt '*' circus.stats web 4711
    """
    if pid is not None and watcher is None:
        raise SaltInvocationError("a pid needs the name of its watcher")
    reply = _control("stats", [watcher, pid], config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    if watcher is None:
        return reply["infos"]
    info = reply["info"]
    return info.get(str(pid), info) if pid is not None and isinstance(info, dict) else info


def dstats(config=None, endpoint=None, timeout=None, bin=None):
    """
    CPU and memory use of the daemon itself.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.dstats
    """
    return _control("dstats", config=config, endpoint=endpoint, timeout=timeout, bin=bin)["info"]


def options(watcher, config=None, endpoint=None, timeout=None, bin=None):
    """
    All options of a watcher, as the daemon has them. The values of its environment are among them.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.options web
    """
    return _control("options", [watcher], config=config, endpoint=endpoint, timeout=timeout, bin=bin)["options"]


def globaloptions(option=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    The options of the daemon, or the value of one of them.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.globaloptions
        salt '*' circus.globaloptions pubsub_endpoint
    """
    reply = _control("globaloptions", [option], config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    return reply["options"] if option is None else reply["options"][option]


def listsockets(config=None, endpoint=None, timeout=None, bin=None):
    """
    The sockets that the daemon holds for its watchers.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.listsockets
    """
    return _control("listsockets", config=config, endpoint=endpoint, timeout=timeout, bin=bin)["sockets"]


def get(watcher, *keys, **kwargs):
    """
    Some options of a watcher: ``{key: value}``.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.get web numprocesses cmd
    """
    where, rest = _where(kwargs)
    if rest:
        raise SaltInvocationError("circus.get takes keys as words, not {}".format(", ".join(sorted(rest))))
    if not keys:
        raise SaltInvocationError("circus.get takes a watcher and at least one key")
    return _control("get", [watcher] + list(keys), **where)["options"]


def set_(watcher, *pairs, **kwargs):
    """
    Change options of a watcher in the running daemon (and there alone: see ``circus.watcher`` of the states for file
    and daemon). Gives True, or the processes that were replaced.

    waiting
        Return when the work is done.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.set web graceful_timeout=10 send_hup=True
        salt '*' circus.set web graceful_timeout 10
    """
    where, changes = _where(kwargs)
    waiting = changes.pop("waiting", False)
    if len(pairs) % 2:
        raise SaltInvocationError("circus.set: {} has no value".format(pairs[-1]))
    words = _pairs(dict(zip(pairs[::2], pairs[1::2]))) + _pairs(changes)
    if not words:
        raise SaltInvocationError("circus.set takes a watcher and options with their values")
    return _done(_control("set", [watcher] + words, _waiting(waiting), **where))


def _where(kwargs):
    """
    Divides keyword arguments into those that say which daemon is meant and the rest.
    """
    kwargs = salt.utils.args.clean_kwargs(**kwargs)
    where = {key: kwargs.pop(key) for key in ("bin", "config", "endpoint", "timeout") if key in kwargs}
    return where, kwargs


def start(watcher=None, waiting=False, match=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    Start watchers: one, those that a pattern matches, or all. Gives True, or with ``waiting`` the processes.

    match
        How the name is read: simple, glob (the default) or regex.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.start web
        salt '*' circus.start 'worker-*' waiting=True
    """
    return _many("start", watcher, waiting, match, config, endpoint, timeout, bin)


def stop(watcher=None, waiting=False, match=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    Stop watchers: one, those that a pattern matches, or all.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.stop web
    """
    return _many("stop", watcher, waiting, match, config, endpoint, timeout, bin)


def restart(watcher=None, waiting=False, match=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    Stop and start watchers: one, those that a pattern matches, or all.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.restart web
    """
    return _many("restart", watcher, waiting, match, config, endpoint, timeout, bin)


def _many(command, watcher, waiting, match, config, endpoint, timeout, bin):
    switches = _waiting(waiting) + (["--match", match] if match else [])
    where = {"config": config, "endpoint": endpoint, "timeout": timeout, "bin": bin}
    return _done(_control(command, [watcher], switches, **where))


def reload(
    watcher=None,
    waiting=False,
    sequential=False,
    terminate=False,
    config=None,
    endpoint=None,
    timeout=None,
    bin=None,
):
    """
    Replace the processes of a watcher, or of all, by new ones, which come before the old ones go.

    sequential
        One process after the other.

    terminate
        Stop the old ones first.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.reload web
    """
    switches = _waiting(waiting)
    switches += ["--sequential"] if sequential else []
    switches += ["--terminate"] if terminate else []
    return _done(
        _control("reload", [watcher], switches, config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    )


def signal(signal, watcher=None, pid=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    Send a signal to the processes of a watcher, or to one of them.

    signal
        A number, ``HUP`` or ``SIGHUP``. The words start, stop, restart, reload and quit give the daemon that command
        instead: that is what this function did in the circus module of salt-contrib.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.signal HUP web
        salt '*' circus.signal restart web
    """
    where = {"config": config, "endpoint": endpoint, "timeout": timeout, "bin": bin}
    if signal in ("start", "stop", "restart", "reload"):
        return _done(_control(signal, [watcher], **where))
    if signal == "quit":
        return quit(**where)
    if watcher is None:
        raise SaltInvocationError("a signal needs the name of a watcher")
    return _done(_control("signal", [watcher, pid, signal], **where))


def quit(waiting=False, config=None, endpoint=None, timeout=None, bin=None):
    """
    Stop everything and end the daemon.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.quit
    """
    return _done(
        _control("quit", switches=_waiting(waiting), config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    )


def incr(watcher, nb=1, waiting=False, config=None, endpoint=None, timeout=None, bin=None):
    """
    Run more processes of a watcher. Gives their number.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.incr web
        salt '*' circus.incr web 2
    """
    reply = _control(
        "incr", [watcher, nb], _waiting(waiting), config=config, endpoint=endpoint, timeout=timeout, bin=bin
    )
    return reply.get("numprocesses", True)


def decr(watcher, nb=1, waiting=False, config=None, endpoint=None, timeout=None, bin=None):
    """
    Run fewer processes of a watcher. Gives their number.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.decr web
    """
    reply = _control(
        "decr", [watcher, nb], _waiting(waiting), config=config, endpoint=endpoint, timeout=timeout, bin=bin
    )
    return reply.get("numprocesses", True)


def numprocesses(watcher=None, config=None, endpoint=None, timeout=None, bin=None):
    """
    How many processes a watcher has, or all of them.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.numprocesses web
    """
    where = {"config": config, "endpoint": endpoint, "timeout": timeout, "bin": bin}
    return _control("numprocesses", [watcher], **where)["numprocesses"]


def add(watcher, cmd, start=False, waiting=False, **kwargs):
    """
    Add a watcher to the running daemon (and there alone: see ``circus.watcher`` of the states for file and daemon).

    start
        Start it at once.

    kwargs
        Options of the watcher.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.add web 'python3 worker.py' start=True numprocesses=2
    """
    where, settings = _where(kwargs)
    switches = _waiting(waiting) + (["--start"] if start else [])
    for pair in _pairs(settings):
        switches += ["--set", pair]
    return _done(_control("add", [watcher, cmd], switches, **where))


def rm(watcher, nostop=False, waiting=False, config=None, endpoint=None, timeout=None, bin=None):
    """
    Stop a watcher and forget it.

    nostop
        Leave its processes running, unsupervised.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.rm web
    """
    switches = _waiting(waiting) + (["--nostop"] if nostop else [])
    return _done(_control("rm", [watcher], switches, config=config, endpoint=endpoint, timeout=timeout, bin=bin))


def reloadconfig(check=False, waiting=True, config=None, endpoint=None, timeout=None, bin=None):
    """
    Have the daemon read its configuration file again and apply what changed.

    check
        Say what would be done, and do nothing (circ's own daemon).

    CLI Example:

    .. code-block:: bash

        salt '*' circus.reloadconfig
        salt '*' circus.reloadconfig check=True
    """
    switches = _waiting(waiting) + (["--check"] if check else [])
    reply = _control("reloadconfig", [], switches, config=config, endpoint=endpoint, timeout=timeout, bin=bin)
    reply.pop("status", None)
    return reply or True


def apply(
    desired=None,
    source=None,
    prune=False,
    test=False,
    config=None,
    endpoint=None,
    timeout=None,
    bin=None,
    **kwargs
):
    """
    Bring file and daemon to a desired state, in one transaction. Gives circ's report, also of a failure: its keys
    ``failed``, ``changed``, ``changes`` and ``msg`` tell.

    desired
        The desired state as data (``{"watcher": {"web": {"numprocesses": 4}}}``), or as the text of a TOML, JSON or
        circus.ini document.

    source
        A file or directory of the minion that holds it, in place of ``desired``. Without either, the configuration
        file is the desired state of the daemon.

    prune
        Watchers, sockets and plugins that it does not name go.

    test
        Change nothing; report what would change.

    kwargs
        ``settle`` (seconds that workers must stay), ``live=False`` (the file alone), ``persist=False`` (the daemon
        alone), ``backup``, ``start_daemon``, ``diff``.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.apply '{watcher: {web: {numprocesses: 4}}}' test=True
    """
    chosen = _settings(bin, config, endpoint, timeout)
    switches = _state_switches(test, kwargs) + (["--prune"] if prune else [])
    if desired is not None and source is not None:
        raise SaltInvocationError("give either desired or source")
    if desired is not None:
        return _shared("state")(chosen, "apply", switches=switches, document=desired)
    if source is None and not chosen["config"]:
        raise SaltInvocationError("nothing is desired: give desired, source or config")
    return _shared("state")(chosen, "apply", [source or chosen["config"]], switches)


def ensure(watcher, procs=None, running=None, test=False, config=None, endpoint=None, timeout=None, bin=None, **kwargs):
    """
    A watcher that is there already runs, or does not, with so many workers. Gives circ's report.

    running
        True: it runs (the default); False: it is stopped.

    kwargs
        As of :py:func:`circus.apply <apply>`.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.ensure web procs=4
        salt '*' circus.ensure web running=False test=True
    """
    switches = _state_switches(test, kwargs) + (["--stopped"] if running is False else ["--running"])
    if procs is not None:
        switches.append("--procs={}".format(procs))
    return _shared("state")(_settings(bin, config, endpoint, timeout), "ensure", [watcher], switches)


def absent(
    watcher,
    with_env=False,
    with_socket=False,
    test=False,
    config=None,
    endpoint=None,
    timeout=None,
    bin=None,
    **kwargs
):
    """
    A watcher is neither in the file nor in the daemon. Gives circ's report.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.absent web
    """
    switches = _state_switches(test, kwargs)
    switches += ["--with-env"] if with_env else []
    switches += ["--with-socket"] if with_socket else []
    return _shared("state")(_settings(bin, config, endpoint, timeout), "absent", [watcher], switches)


def handle(watcher, how, signal=None, test=False, config=None, endpoint=None, timeout=None, bin=None, **kwargs):
    """
    Workers are restarted, reloaded or signalled now, and it is waited until they run. Gives circ's report.

    how
        ``restarted``, ``reloaded`` or ``signalled``.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.handle web reloaded
    """
    if how not in ("restarted", "reloaded", "signalled"):
        raise SaltInvocationError("how is restarted, reloaded or signalled, not {!r}".format(how))
    switches = _state_switches(test, kwargs)
    if how == "signalled" and signal is not None:
        switches.append("--signal={}".format(signal))
    return _shared("state")(_settings(bin, config, endpoint, timeout), how, [watcher], switches)


def _state_switches(test, rest):
    """
    The options that all verbs of ``circ state`` have.
    """
    rest = salt.utils.args.clean_kwargs(**rest)
    switches = ["--check", "--check-exit-zero"] if test else []
    if not rest.pop("live", True):
        switches.append("--no-live")
    if not rest.pop("persist", True):
        switches.append("--no-persist")
    for key in ("backup", "start_daemon", "diff"):
        if rest.pop(key, False):
            switches.append("--" + key.replace("_", "-"))
    settle = rest.pop("settle", None)
    if settle is not None:
        switches.append("--settle={}".format(settle))
    if rest:
        raise SaltInvocationError("unknown arguments: {}".format(", ".join(sorted(rest))))
    return switches


def state_test(desired=None, source=None, prune=False, config=None, endpoint=None, timeout=None, bin=None):
    """
    Does everything comply? Nothing is changed. Gives circ's report: ``changed`` is False if so, and ``changes`` tells
    the drift.

    desired, source, prune
        As of :py:func:`circus.apply <apply>`. Without them, the configuration file is compared with the daemon.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.state_test config=/etc/circus.ini
    """
    where = {"config": config, "endpoint": endpoint, "timeout": timeout, "bin": bin}
    return apply(desired, source, prune, test=True, **where)


def export(*watchers, **kwargs):
    """
    What runs now, as a desired state that ``circus.apply`` finds satisfied. The values of the environment are among
    it.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.export
        salt '*' circus.export web config=/etc/circus.ini
    """
    where, rest = _where(kwargs)
    if rest:
        raise SaltInvocationError("unknown arguments: {}".format(", ".join(sorted(rest))))
    chosen = _settings(**where)
    argv = [_shared("find")(chosen["bin"]), "state", "export", "--format", "json"]
    argv += _shared("where")(chosen) + [_shared("word")(name) for name in watchers]
    code, out, err = _shared("run")(argv)
    exported = _shared("parse")(out)
    if code != 0 or not isinstance(exported, dict):
        raise CommandExecutionError(_shared("complaint")(err) or "circ exported nothing")
    return exported


def agent_status(config=None, endpoint=None, timeout=None, bin=None):
    """
    What ``circ agent`` does, how its last run went and when the next one is.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.agent_status
    """
    chosen = _settings(bin, config, endpoint, timeout)
    return _shared("agent_status")(chosen)


def command(*words, **kwargs):
    """
    The command line that calls the binary with these words for the configured daemon, as a list: for engines and
    scripts that run it themselves.

    CLI Example:

    .. code-block:: bash

        salt '*' circus.command listen --json
    """
    where, _ = _where(kwargs)
    chosen = _settings(**where)
    chosen["timeout"] = None
    found = _shared("find")(chosen["bin"])
    return [found] + [str(word) for word in words] + _shared("where")(chosen, control=True)
