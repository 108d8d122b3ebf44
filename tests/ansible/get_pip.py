"""Stands in for the script that ansible-test would fetch from the web: pip, as Python itself brings it, installs."""

import subprocess
import sys

subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
pip = [sys.executable, "-m", "pip", "install", "--quiet"]
sys.exit(subprocess.call(pip + [word for word in sys.argv[1:] if not word.startswith("--no-")]))
