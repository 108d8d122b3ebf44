"""
What the circus modules share: where the ``circ`` binary is, how it is called, and how its answers are read.

The binary does the work. Nothing in here knows an option of a watcher: what a user writes is handed on, and what is
wrong with it is said by the binary.

Settings stand in the minion's configuration (or pillar) under ``circus``:

.. code-block:: yaml

    circus:
      bin: /opt/circ/bin/circ        # else circ is looked for in PATH and a few usual places
      config: /etc/circus.ini        # whose [circus] section also says where the daemon is
      endpoint: tcp://127.0.0.1:5555 # wins over the file's
      timeout: 5                     # seconds for one answer of the daemon
"""

import json
import os
import shutil
import subprocess

from salt.exceptions import CommandExecutionError

#: The keys of the settings.
SETTINGS = ("bin", "config", "endpoint", "timeout")

#: Where circ is looked for after PATH, which is short for a minion that was started by an init system.
PLACES = ("/usr/local/bin", "/usr/bin", "/opt/circ/bin", "/usr/local/sbin", "/usr/sbin")

#: The version of the state report that these modules read.
REPORT = 1

#: circ keeps its own deadline; one that is this many seconds late is ended.
GRACE = 15.0


def settings(defaults, **given):
    """
    The settings of one call: what was given, and the defaults for what was not.

    defaults
        A mapping with the keys ``bin``, ``config``, ``endpoint``, ``timeout``; all of them may be missing.

    given
        The same keys; None means not given. A ``config`` or ``endpoint`` that is given puts both defaults aside: they
        are about another daemon.
    """
    chosen = {key: (defaults or {}).get(key) for key in SETTINGS}
    if given.get("config") is not None or given.get("endpoint") is not None:
        chosen["config"] = chosen["endpoint"] = None
    chosen.update({key: value for key, value in given.items() if value is not None})
    return chosen


def look(configured=None):
    """
    Looks for the binary: ``(path, None)``, or ``(None, where it was looked for)``.

    configured
        A path, or a name that is looked for in PATH. Nothing else is tried then.
    """
    if configured:
        configured = str(configured)
        path = shutil.which(os.path.expanduser(configured))
        if path:
            return path, None
        what = "no executable file" if os.path.exists(configured) else "not there"
        return None, "{} (from circus:bin), which is {}".format(configured, what)
    path = shutil.which("circ")
    if path:
        return path, None
    for place in PLACES:
        path = shutil.which(os.path.join(place, "circ"))
        if path:
            return path, None
    return None, "PATH ({}) and {}".format(os.environ.get("PATH", ""), ", ".join(PLACES))


def find(configured=None):
    """
    The path of the binary.

    Raises CommandExecutionError, which says where it was looked for.
    """
    path, looked = look(configured)
    if path is None:
        raise CommandExecutionError(
            "the circ binary was not found; looked in {}. Install it, or say where it is with circus:bin in the "
            "minion's configuration or in pillar".format(looked)
        )
    return path


def run(argv, stdin=None, limit=60.0):
    """
    Runs a command and gives ``(exit code, standard output, standard error)``.

    limit
        Seconds after which it is ended.

    Raises CommandExecutionError if it cannot be run or is ended.
    """
    try:
        done = subprocess.run(
            argv,
            input=None if stdin is None else stdin.encode("utf-8"),
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CommandExecutionError("`{}` did not end within {:g} s".format(shown(argv), limit))
    except (OSError, ValueError) as error:
        raise CommandExecutionError("cannot run `{}`: {}".format(shown(argv), error))
    return (
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
    )


def shown(argv):
    """
    A command as a message shows it: its words up to the first long one.
    """
    text = " ".join(str(word) for word in argv)
    return text if len(text) <= 200 else text[:200] + " ..."


def where(chosen, control=False):
    """
    The arguments that say which daemon is meant, and how long to wait.

    control
        True for the commands of the daemon's control socket, which take the endpoint of one place only.
    """
    words = []
    if chosen.get("endpoint"):
        words += ["--endpoint", str(chosen["endpoint"])]
    if chosen.get("config") and not (control and words):
        words += ["--config", str(chosen["config"])]
    if chosen.get("timeout") is not None:
        words += ["--timeout", str(chosen["timeout"])]
    return words


def word(text):
    """
    A word that a user gave, as an argument. It must not pass for an option of the command line.
    """
    text = str(text)
    if text.startswith("-") and not text[1:].isdigit():
        raise CommandExecutionError("{!r}: a name does not begin with a dash".format(text))
    return text


def control(chosen, command, words=(), switches=(), limit=None):
    """
    Sends one command to the daemon and gives its reply.

    words
        What a user gave: names, numbers, ``key=value``.

    switches
        Options of the command line, already as they are written there.

    limit
        Seconds after which circ is ended, if it should be late for its own deadline.

    Raises CommandExecutionError with the daemon's own reason if it refuses, or with that of the client if nobody
    answers.
    """
    argv = [find(chosen.get("bin")), command, "--json"]
    argv += where(chosen, control=True) + list(switches) + [word(text) for text in words]
    code, out, err = run(argv, limit=limit or seconds(chosen.get("timeout"), 5.0) + GRACE)
    reply = parse(out)
    if code == 0 and isinstance(reply, dict):
        return reply
    if isinstance(reply, dict) and reply.get("reason"):
        raise CommandExecutionError("{} (errno {})".format(reply["reason"], reply.get("errno", 0)))
    raise CommandExecutionError(complaint(err) or "`{}` ended with {}: {}".format(shown(argv), code, out.strip()))


def state(chosen, verb, words=(), switches=(), document=None):
    """
    Runs one verb of ``circ state`` and gives its report, be it of success or failure.

    document
        What the verb reads from its standard input; anything but text is written as JSON. It never stands in an
        argument, which every user of the machine could read.

    Raises CommandExecutionError if there is no report, or one of a version that these modules do not know.
    """
    if document is not None and not isinstance(document, str):
        document = json.dumps(document)
    argv = [find(chosen.get("bin")), "state", verb, "--json"]
    argv += where(chosen) + list(switches) + [word(text) for text in words]
    if document is not None:
        argv.append("-")
    code, out, err = run(argv, stdin=document, limit=seconds(chosen.get("timeout"), 60.0) + GRACE)
    report = parse(out)
    if not isinstance(report, dict):
        raise CommandExecutionError(complaint(err) or "`{}` ended with {} and no report".format(shown(argv), code))
    known(report, argv[0])
    return report


def agent_status(chosen):
    """
    What the agent of this daemon says of itself.

    Raises CommandExecutionError if there is none.
    """
    argv = [find(chosen.get("bin")), "agent", "status", "--json"] + where(chosen, control=True)
    code, out, err = run(argv, limit=seconds(chosen.get("timeout"), 5.0) + GRACE)
    answer = parse(out)
    if code == 0 and isinstance(answer, dict):
        return answer
    if isinstance(answer, dict) and answer.get("schema"):
        return answer
    raise CommandExecutionError(complaint(err) or "`{}` ended with {}".format(shown(argv), code))


def known(report, binary):
    """
    Raises CommandExecutionError unless the report is of the version that these modules read.
    """
    schema = str(report.get("schema"))
    kind, _, version = schema.rpartition("/")
    if kind == "circ.state" and version.isdigit():
        if int(version) == REPORT:
            return
        advice = (
            "the binary is newer: update the Salt modules of circ (or the package saltext-circus)"
            if int(version) > REPORT
            else "the binary is older: update circ"
        )
    else:
        advice = "is this circ, and one that fits the Salt modules?"
    raise CommandExecutionError(
        "{} gave a report of schema {!r}, and these modules read 'circ.state/{}'; {}".format(
            binary, report.get("schema"), REPORT, advice
        )
    )


def parse(text):
    """
    A text as JSON, or None.
    """
    try:
        return json.loads(text)
    except ValueError:
        return None


def complaint(err):
    """
    What circ said on standard error, without the words that only a terminal needs.
    """
    text = err.strip().split("\n\nFor more information", 1)[0]
    return text[len("error: ") :] if text.startswith("error: ") else text


def seconds(value, default):
    """
    A timeout as a number. One that is none is left to the binary to refuse.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return default
