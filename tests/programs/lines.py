"""Runs the real programs' command lines for the tests: a JSON list of jobs in, a list of outcomes out.

A job is [program, words, COLUMNS]. Each runs in a forked child, so that Python and circus are imported once.
Only for lines that end by themselves: help, versions, mistakes.
"""
import importlib
import json
import os
import sys
import tempfile

MODULES = {
    "circusd": "circus.circusd",
    "circusctl": "circus.circusctl",
    "circus-top": "circus.stats.client",
    "circusd-stats": "circus.stats",
    "circus-plugin": "circus.plugins",
    "chaussette": "chaussette.server",
}
# every name that Chaussette ever had, not only those whose libraries are here
BACKENDS = ["bjoern", "eventlet", "fastgevent", "gevent", "geventwebsocket", "geventws4py", "meinheld", "socketio",
            "tornado", "waitress", "wsgiref"]


def run(program, words, columns):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.environ["COLUMNS"] = str(columns)
                sys.argv = [program] + words
                try:
                    modules[program].main()
                    code = 0
                except SystemExit as stop:
                    code = stop.code or 0
                except BaseException as error:
                    print("Traceback", repr(error), file=sys.stderr)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code if isinstance(code, int) else 1)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        return [os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()]


jobs = json.load(sys.stdin)
modules = {program: importlib.import_module(MODULES[program]) for program in {job[0] for job in jobs}}
if "chaussette" in modules:
    modules["chaussette"].backends = lambda: BACKENDS
sys.stdout.flush()
json.dump([run(*job) for job in jobs], sys.stdout)
