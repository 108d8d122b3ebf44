"""Runs the real circusctl for the tests: one JSON line in, one out, a forked child a run.

Importing pyzmq and circus takes most of a second, a fork takes none of it. No ZeroMQ context is made
here, so a child starts as clean as a new process.
"""
import json
import os
import sys
import tempfile
import traceback

from circus import circusctl


def run(argv, environ, stdin):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as inp:
        inp.write(stdin.encode())
        inp.seek(0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for stream, fd in ((inp, 0), (out, 1), (err, 2)):
                    os.dup2(stream.fileno(), fd)
                # Buffered text that the parent has read ahead is not the child's.
                sys.stdin = open(0, closefd=False)
                os.environ.update(environ)
                sys.argv = ["circusctl"] + argv
                try:
                    circusctl.main()
                    code = 0
                except SystemExit as stop:
                    code = stop.code or 0
                except BaseException:
                    traceback.print_exc()
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code if isinstance(code, int) else 1)
        _, status = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "stdout": out.read().decode(),
            "stderr": err.read().decode(),
        }


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(run(job["argv"], job["environ"], job["stdin"])), flush=True)
