"""The Python environments of the measurements, each made once from its pinned list of requirements."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv


def make(home: str, requirements: str) -> None:
    """Makes the environment in the directory `home`, unless it is there. Runs at a time make it once."""
    with open(requirements, "rb") as file:
        wanted = hashlib.sha256(file.read() + sys.version.encode()).hexdigest()
    stamp = os.path.join(home, "made-of")
    os.makedirs(os.path.dirname(home), exist_ok=True)
    with open(home + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            with open(stamp, encoding="utf-8") as file:
                if file.read() == wanted:
                    return
        except FileNotFoundError:
            pass
        print(f"making the Python environment in {home}", file=sys.stderr, flush=True)
        venv.create(home, clear=True, with_pip=True)
        python = os.path.join(home, "bin", "python")
        if subprocess.call([python, "-m", "pip", "install", "--quiet", "-r", requirements], stdout=sys.stderr) != 0:
            sys.exit(f"the packages of {requirements} could not be installed; pip has said why")
        # Last, so that a half-made environment is never used.
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)
