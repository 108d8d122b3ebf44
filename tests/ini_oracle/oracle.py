"""The real Circus, asked how it reads circus.ini: a JSON object a line in, one out.

Bytes travel as texts of the characters U+0000 to U+00FF.
"""
import fnmatch
import glob
import io
import json
import logging
import os
import shlex
import sys
import warnings

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from circus import config as circus_config  # noqa: E402
from circus import util  # noqa: E402
from circus.process import Process  # noqa: E402
from circus.sockets import CircusSocket  # noqa: E402
from circus.watcher import Watcher  # noqa: E402

# A directory has no order of its own; circ sorts.
plain_glob = glob.glob
glob.glob = lambda *args, **kwargs: sorted(plain_glob(*args, **kwargs))


def read(request):
    parser = util.StrictConfigParser()
    stream = io.TextIOWrapper(io.BytesIO(request["bytes"].encode("latin-1")), encoding="utf-8")
    parser._read(stream, "oracle")
    sections = {name: dict(keys) for name, keys in parser._sections.items()}
    for keys in sections.values():
        del keys["__name__"]
    return {"sections": sections, "defaults": dict(parser._defaults)}


def set_environ(environ):
    for name in list(os.environ):
        del os.environ[name]
    os.environ.update(environ)


def made_watcher(raw):
    watcher = Watcher.load_from_config(dict(raw))
    made = {name: getattr(watcher, name) for name in (
        "name", "env", "numprocesses", "graceful_timeout", "max_retry", "max_age",
        "max_age_variance", "working_dir", "stop_signal", "cmd", "args", "shell", "shell_args",
        "uid", "gid", "send_hup", "stop_children", "respawn", "autostart", "priority",
        "copy_env", "copy_path", "singleton", "use_sockets", "on_demand", "executable",
        "warmup_delay", "close_child_stdin", "close_child_stdout", "close_child_stderr",
        "stdin_socket", "rlimits", "stdout_stream_conf", "stderr_stream_conf")}
    made["stop_signal"] = int(made["stop_signal"])
    if made["copy_path"]:
        # circusd's own sys.path, which only a Python program has.
        del made["env"]["PYTHONPATH"]
    made["options"] = {key: value for key, value in watcher._options.items()}
    return made


def made_socket(raw):
    # Only the conversions: no socket is opened.
    seen = {}

    class Probe(CircusSocket):
        def __init__(self, **params):
            seen.update(params)

    Probe.load_from_config(dict(raw))
    return {key: (value if isinstance(value, (str, int, bool, type(None))) else int(value))
            for key, value in seen.items()}


def each(make, configs):
    answers = []
    for raw in configs:
        try:
            answers.append({"name": raw["name"], "made": make(raw)})
        except Exception as error:
            answers.append({"name": raw["name"], "error": "%s: %s" % (type(error).__name__, error)})
    return answers


def config(request):
    set_environ(request["environ"])
    os.chdir(request["cwd"])
    config = circus_config.get_config(request["path"])
    parser, files = circus_config.read_config(request["path"])
    sections = {name: list(parser.items(name, noreplace=True)) for name in parser.sections()}
    # Hooks are left out: making a watcher would import them.
    hooks = {}
    for watcher in config["watchers"]:
        hooks[watcher["name"]] = watcher.pop("hooks")
    sockets = each(made_socket, config["sockets"])
    watchers = each(made_watcher, config.pop("watchers"))
    return {"sections": sections, "files": files, "watchers": watchers, "hooks": hooks,
            "sockets": sockets, "raw_sockets": config.pop("sockets"),
            "plugins": config.pop("plugins"), "circus": config}


def argv(request):
    """Process.format_args on the options of a watcher that came from a file."""
    set_environ({})
    os.chdir("/")
    configured = circus_config.get_config(request["path"])["watchers"][0]
    configured.pop("hooks")
    watcher = Watcher.load_from_config(configured)
    cmd = util.replace_gnu_args(watcher.cmd, env=watcher.env)
    process = Process(watcher.name, request["wid"], cmd, args=watcher.args,
                      working_dir=watcher.working_dir, shell=watcher.shell, env=watcher.env,
                      rlimits=watcher.rlimits, executable=watcher.executable,
                      use_fds=watcher.use_sockets, watcher=watcher, spawn=False)
    return {"argv": process.format_args(sockets_fds=request["sockets"])}


def words(request):
    return {"words": shlex.split(request["text"])}


def quoted(request):
    return {"quoted": shlex.quote(request["text"])}


def match(request):
    return {"match": fnmatch.fnmatchcase(request["name"], request["pattern"])}


OPERATIONS = {"read": read, "config": config, "argv": argv, "words": words, "quoted": quoted,
              "match": match}

for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = OPERATIONS[request["op"]](request)
    except Exception as error:
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
