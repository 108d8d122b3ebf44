"""
Watchers, sockets and whole configurations of a circus daemon
=============================================================

:maturity: new
:depends: the ``circ`` binary, which a state of the same run may bring
:platform: Linux

A state of this module edits the configuration file (and nothing else in it), brings the running daemon to match by the
smallest action, and waits until the workers really run. A second run changes nothing.

.. code-block:: yaml

    web:
      circus.watcher:
        - cmd: python3 worker.py
        - procs: 4
        - graceful_timeout: 10
        - env:
            PORT: 8080
        - config: /etc/circus.ini

All states take ``config``, ``endpoint``, ``timeout`` (seconds for the whole state; 60 if not given) and ``bin``, whose
defaults stand in the minion's configuration or in pillar, see the execution module; and:

settle
    Seconds that workers must stay before they count as running (default 1).

live
    False: edit the file alone; no daemon is needed.

persist
    False: change the daemon alone.

backup
    True: keep a copy of each file that is changed, beside it.

start_daemon
    True: if no daemon listens, start one on the configuration file.

diff
    True: the changes hold a unified diff of each file as well.

With ``test=True`` the result is None with the changes that would come, and True where nothing would. Where a state of the
same run is still to bring the binary or the file, nothing more can be told, and the result is None as well, as with
``service.running``. The values of environment variables are masked in changes and comments.

**Requisites.** A state that is watched, and changed nothing itself, restarts its workers when the other one changed;
``reload: True`` reloads them gracefully, ``signal: HUP`` sends them a signal. To act only when something else changed,
use ``circus.restarted``, ``circus.reloaded`` or ``circus.signalled`` with ``onchanges``; to act once at the end, use
``listen`` with any other state of this module:

.. code-block:: yaml

    /srv/web/settings.py:
      file.managed:
        - source: salt://web/settings.py

    web:
      circus.running:
        - reload: True
        - watch:
          - file: /srv/web/settings.py
"""

import difflib

from salt.exceptions import CommandExecutionError

__virtualname__ = "circus"

#: What every state takes beside its own arguments: where the daemon is, and how circ goes about it.
COMMON = ("bin", "config", "endpoint", "timeout", "settle", "live", "persist", "backup", "start_daemon", "diff")


def __virtual__():
    return __virtualname__


def watcher(
    name,
    procs=None,
    running=None,
    env=None,
    sockets=None,
    unset=None,
    restart_on_change=None,
    reload=None,
    signal=None,
    **kwargs
):
    """
    The watcher is there, so configured, and so many of its workers run.

    name
        The watcher's name.

    procs
        How many workers; the same as ``numprocesses``.

    running
        True: the workers run. False: the watcher is stopped. ``any``: it is left as it is. Not given: they run, but
        with ``autostart: False`` it is left as it is.

    env
        Variables of the workers' environment, ``{NAME: VALUE}``. Those that are not named are left alone; a value of
        null takes one away.

    sockets
        Sockets that the daemon holds and the workers inherit: ``{NAME: HOST:PORT}``, ``{NAME: unix:PATH}``, or
        ``{NAME: {host: ..., port: ..., backlog: ...}}``.

    unset
        A list of options that the section must not state, so that their defaults count; ``env.NAME`` takes a variable
        away.

    restart_on_change
        What a changed option does to running workers. ``auto`` (the default): if it needs new workers, they are
        reloaded gracefully; ``never``; ``always``: any changed option but their number restarts them.

    reload, signal
        What a ``watch`` requisite does to the workers in place of a restart, see above.

    kwargs
        Every other option of a watcher: ``cmd``, ``args``, ``numprocesses``, ``working_dir``, ``uid``,
        ``graceful_timeout``, ``max_age``, ``rlimits``, ``stdout_stream``, ``hooks`` ... as a desired state of circ
        has them. ``circ state schema --resource watcher`` lists them all. Keys of your own stand in ``extra``. What is
        unknown is refused.

    .. code-block:: yaml

        web:
          circus.watcher:
            - cmd: chaussette --fd $(circus.sockets.web) app:application
            - procs: 4
            - rlimits:
                nofile: 4096
            - sockets:
                web: 127.0.0.1:8080
            - unset:
              - max_age
    """
    common, body = _divide(kwargs)
    if procs is not None:
        if body.get("numprocesses") not in (None, procs):
            return _failed(name, "procs and numprocesses are the same option, and they differ")
        # A new section begins as a person would begin it.
        first = {key: body.pop(key) for key in ("cmd", "args") if key in body}
        body.pop("numprocesses", None)
        body = dict(first, numprocesses=procs, **body)
    if running is not None:
        states = {True: "running", False: "stopped", "any": "present"}
        if running not in states:
            return _failed(name, "running is True, False or any, not {!r}".format(running))
        body["state"] = states[running]
    for key, value in (("env", env), ("unset", unset), ("restart_on_change", restart_on_change)):
        if value is not None:
            body[key] = value
    document = {"watcher": {name: body}}
    if sockets:
        try:
            document["socket"] = {socket: _socket(socket, value) for socket, value in sockets.items()}
        except (AttributeError, ValueError) as error:
            return _failed(name, "sockets: {}".format(error))
        body.setdefault("use_sockets", True)
    return _apply(name, document, common, main=name)


def running(name, procs=None, reload=None, signal=None, **kwargs):
    """
    A watcher that is configured runs, with ``procs`` workers if that is given. Nothing else of it is touched.

    .. code-block:: yaml

        web:
          circus.running:
            - procs: 4
    """
    common, rest = _divide(kwargs)
    if rest:
        return _failed(name, _stray(rest, "circus.watcher takes options"))
    return _report(name, common, lambda: __salt__["circus.ensure"](name, procs, True, __opts__["test"], **common))


def dead(name, **kwargs):
    """
    A watcher does not run. One that is not there is dead as well.

    .. code-block:: yaml

        batch:
          circus.dead: []
    """
    common, rest = _divide(kwargs)
    if rest:
        return _failed(name, _stray(rest))

    def stop():
        report = __salt__["circus.ensure"](name, None, False, __opts__["test"], **common)
        if report["failed"] and not report["changed"] and not _there(name, common):
            return dict(report, failed=False, error=None, msg="{}: there is no such watcher".format(name))
        return report

    return _report(name, common, stop)


def absent(name, with_env=False, with_socket=False, **kwargs):
    """
    A watcher is neither in the file nor in the daemon.

    with_env
        Its section ``[env:NAME]`` goes as well.

    with_socket
        The sockets that no other watcher uses go as well.

    .. code-block:: yaml

        old:
          circus.absent:
            - with_env: True
    """
    common, rest = _divide(kwargs)
    if rest:
        return _failed(name, _stray(rest))
    return _report(
        name, common, lambda: __salt__["circus.absent"](name, with_env, with_socket, __opts__["test"], **common)
    )


def socket(name, **kwargs):
    """
    The daemon holds a socket for its watchers.

    kwargs
        The options of a socket: ``host`` and ``port``, or ``path``; ``backlog``, ``so_reuseport``, ``umask`` ...

    .. code-block:: yaml

        web:
          circus.socket:
            - host: 127.0.0.1
            - port: 8080
    """
    common, body = _divide(kwargs)
    return _apply(name, {"socket": {name: body}}, common, main="socket:" + name)


def socket_absent(name, **kwargs):
    """
    A socket is neither in the file nor held by the daemon.

    .. code-block:: yaml

        web:
          circus.socket_absent: []
    """
    common, rest = _divide(kwargs)
    if rest:
        return _failed(name, _stray(rest))
    return _apply(name, {"socket": {name: {"state": "absent"}}}, common, main="socket:" + name)


def config(name, desired=None, source=None, contents=None, prune=False, **kwargs):
    """
    A whole desired state: many watchers, sockets, plugins and ``[circus]`` options, in one transaction.

    name
        The configuration file, a circus.ini or circus.toml. It must be there.

    desired
        The desired state as data, see below.

    source
        The desired state as a file of the master, ``salt://...``, or of the minion: TOML, JSON or a circus.ini.

    contents
        The desired state as text.

    prune
        Watchers, sockets and plugins that it does not name go.

    Without ``desired``, ``source`` and ``contents`` the file is its own desired state: the daemon is brought to match
    it. That goes well with ``file.managed``:

    .. code-block:: yaml

        /etc/circus.ini:
          file.managed:
            - source: salt://circus/circus.ini
          circus.config:
            - require:
              - file: /etc/circus.ini

    The changes stand under the name of what they are about, ``web``, ``socket:web``, ``circus`` ...:

    .. code-block:: yaml

        /srv/circus.ini:
          circus.config:
            - prune: True
            - desired:
                watcher:
                  web:
                    cmd: python3 worker.py
                    numprocesses: 4
                socket:
                  web:
                    host: 127.0.0.1
                    port: 8080
    """
    common, rest = _divide(dict(kwargs, config=name))
    if rest:
        return _failed(name, _stray(rest, "watchers and their options stand in desired"))
    if sum(given is not None for given in (desired, source, contents)) > 1:
        return _failed(name, "give one of desired, source and contents")
    if source is not None:
        cached = __salt__["cp.cache_file"](source, saltenv=__env__)
        if not cached:
            return _failed(name, "{}: the file server has no such file".format(source))
        source = cached
    if contents is not None:
        desired = contents
    return _report(
        name, common, lambda: __salt__["circus.apply"](desired, source, prune, __opts__["test"], **common)
    )


def restarted(name, **kwargs):
    """
    The workers of a watcher are restarted: a change every time, meant for ``onchanges``.

    .. code-block:: yaml

        web-restarted:
          circus.restarted:
            - name: web
            - onchanges:
              - file: /srv/web/settings.py
    """
    return _handle(name, "restarted", None, kwargs)


def reloaded(name, **kwargs):
    """
    The workers of a watcher are reloaded gracefully, new ones before the old ones go: a change every time, meant for
    ``onchanges``.

    .. code-block:: yaml

        web-reloaded:
          circus.reloaded:
            - name: web
            - onchanges:
              - file: /srv/web/settings.py
    """
    return _handle(name, "reloaded", None, kwargs)


def signalled(name, signal="HUP", **kwargs):
    """
    The workers of a watcher get a signal: a change every time, meant for ``onchanges``.

    signal
        A number, ``HUP`` or ``SIGHUP``.

    .. code-block:: yaml

        logs-reopened:
          circus.signalled:
            - name: web
            - signal: USR1
            - onchanges:
              - file: /etc/logrotate.d/web
    """
    return _handle(name, "signalled", signal, kwargs)


def _handle(name, how, signal, kwargs):
    common, rest = _divide(kwargs)
    if rest:
        return _failed(name, _stray(rest))
    return _report(name, common, lambda: __salt__["circus.handle"](name, how, signal, __opts__["test"], **common))


def mod_watch(name, sfun=None, reload=None, signal=None, **kwargs):
    """
    What a ``watch`` or ``listen`` requisite does when what is watched has changed; Salt calls it.

    reload
        True: the workers are reloaded gracefully, not restarted.

    signal
        The workers get this signal, and are not restarted.
    """
    common = {key: kwargs[key] for key in COMMON if key in kwargs}
    if sfun in ("restarted", "reloaded"):
        return _handle(name, sfun, None, common)
    if sfun == "signalled":
        return _handle(name, sfun, signal or "HUP", common)
    if sfun == "config":
        return config(name, **{key: value for key, value in kwargs.items() if key in COMMON + CONFIG})
    if sfun not in ("watcher", "running") or kwargs.get("running") in (False, "any"):
        return {
            "name": name,
            "result": True,
            "changes": {},
            "comment": "{}: nothing is to be restarted".format(name),
        }
    if signal is not None:
        return _handle(name, "signalled", signal, common)
    return _handle(name, "reloaded" if reload else "restarted", None, common)


#: The arguments of `config` itself.
CONFIG = ("desired", "source", "contents", "prune")


def _divide(kwargs):
    """
    Divides a state's arguments into those that every state takes and the rest. Salt's own are dropped.
    """
    kwargs = {key: value for key, value in kwargs.items() if not key.startswith("__")}
    common = {key: kwargs.pop(key) for key in COMMON if key in kwargs}
    return common, kwargs


def _stray(rest, advice=None):
    text = "unknown arguments: {}".format(", ".join(sorted(rest)))
    return "{} ({})".format(text, advice) if advice else text


def _socket(name, value):
    """
    A socket as a desired state has it.
    """
    if isinstance(value, dict):
        return dict(value)
    text = str(value)
    if text.startswith("unix:"):
        return {"path": text[len("unix:") :]}
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("{}: {!r} is neither HOST:PORT nor unix:PATH".format(name, text))
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return {"host": host, "port": int(port)}


def _apply(name, document, common, main=None):
    return _report(
        name, common, lambda: __salt__["circus.apply"](document, None, False, __opts__["test"], **common), main
    )


def _there(name, common):
    """
    Does the daemon know the watcher? If nobody can be asked, it is taken to be there, and the failure stands.
    """
    where = {key: common[key] for key in ("bin", "config", "endpoint", "timeout") if key in common}
    try:
        known = __salt__["circus.status"](**where)
    except CommandExecutionError:
        return True
    return name.lower() in (other.lower() for other in known)


def _failed(name, comment):
    return {"name": name, "result": False, "changes": {}, "comment": comment}


def _report(name, common, call, main=None):
    """
    Runs circ and turns its report, or what kept it from giving one, into what a state returns.
    """
    if __opts__["test"]:
        missing = _not_yet(common)
        if missing:
            return {"name": name, "result": None, "changes": {}, "comment": missing}
    try:
        report = call()
    except CommandExecutionError as error:
        return _failed(name, str(error))
    return _returned(name, report, main)


def _not_yet(common):
    """
    With test=True: what an earlier state of the same run may still have to bring, or None.
    """
    where = {key: common.get(key) for key in ("bin", "config", "endpoint", "timeout")}
    missing = __salt__["circus.missing"](**where)
    return missing and "{}; if this run brings it, more can be told".format(missing)


def _returned(name, report, main=None):
    """
    A report of circ as a state returns it.

    main
        The resource of a report over several that the state is about: its changes stand by themselves, those of the
        others (its sockets) under their names.
    """
    changes = dict(report.get("changes") or {})
    changes.update(changes.pop(main, {}))
    if report.get("changed"):
        for path, text in _diffs(report.get("diff") or []):
            changes.setdefault("diff", {})[path] = text
    else:
        changes = {}
    if report.get("failed"):
        result = False
    elif report.get("check") and report.get("changed"):
        result = None
    else:
        result = True
    returned = {"name": name, "result": result, "changes": changes, "comment": _comment(report, main)}
    warnings = [str(warning) for warning in report.get("warnings") or []]
    if warnings:
        returned["warnings"] = warnings
    return returned


def _comment(report, main=None):
    """
    What a person is told: a line for each resource, the one that the state is about first, or why there is none.
    """
    parts = sorted(report.get("resources") or [], key=lambda part: part.get("name") != main)
    told = [part["msg"] for part in parts]
    if report.get("failed"):
        # Nothing came of it, or of all of it: the reason. The document of a state is no file with lines.
        whole = report.get("error") if report.get("resource") == "state" else None
        told = [part["msg"] for part in parts if part.get("failed")] or [whole or report.get("msg", "")]
        told = ["\n".join(_placed(line) for line in text.split("\n")) for text in told]
    elif report.get("resource") != "state":
        told = [report.get("msg", "")]
    if report.get("restarted") and not report.get("failed") and report.get("resource") == "state":
        told.append("workers would be replaced" if report.get("check") else "workers were replaced")
    if report.get("backups"):
        told.append("the file as it was: {}".format(", ".join(report["backups"])))
    return "\n".join(told) if told else report.get("msg", "")


def _placed(line):
    """
    A line of an error without a place in standard input: the user wrote no such file.
    """
    place, colon, rest = line.partition(": ")
    return rest if colon and place.startswith("-:") and place[2:].isdigit() else line


def _diffs(entries):
    """
    The files of a report's diff, as unified diffs.
    """
    for entry in entries:
        if "before" in entry:
            path = entry.get("before_header", "")
            lines = difflib.unified_diff(
                entry["before"].splitlines(True), entry["after"].splitlines(True), path, entry.get("after_header", path)
            )
            yield path, "".join(lines)
