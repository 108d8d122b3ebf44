"""The real supervisor, asked what it would run: a JSON object a line in, one out."""
import json
import os
import shlex
import sys

from supervisor.options import ServerOptions


def what_runs(request):
    for name in list(os.environ):
        del os.environ[name]
    os.environ.update(request["environ"])
    os.chdir(os.path.dirname(request["path"]))
    options = ServerOptions()
    options.configfile = request["path"]
    options.here = os.path.dirname(request["path"])
    section = options.read_config(request["path"])
    processes = []
    for group in section.process_group_configs:
        if type(group).__name__ == "EventListenerPoolConfig":
            continue
        for process in group.process_configs:
            log = process.stdout_logfile
            processes.append({
                "name": process.name,
                "argv": shlex.split(process.command),
                "directory": process.directory,
                "env": process.environment,
                "autostart": process.autostart,
                "respawn": process.autorestart is not False,
                "stop_signal": int(process.stopsignal),
                "graceful_timeout": process.stopwaitsecs,
                "stop_children": process.stopasgroup,
                "priority": process.priority,
                "log": log if isinstance(log, str) else None,
            })
    return {"processes": processes}


for line in sys.stdin:
    try:
        answer = what_runs(json.loads(line))
    except (Exception, SystemExit) as error:
        answer = {"error": "%s: %s" % (type(error).__name__, error)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
