"""A masterless minion for the tests: reads one call a line, JSON, and answers its result in one line.

Usage: caller.py CONFIG_DIR. A call is {"fun": "state.single", "args": [...], "kwargs": {...}}; the answer is
{"return": ...}, or {"error": "..."} for an exception that `salt-call` would print. Salt is real; only the process is
started once for many calls.
"""

import json
import os
import sys


def main():
    answers = os.fdopen(os.dup(1), "w")
    # What Salt or a child of it prints is not an answer.
    os.dup2(2, 1)

    import salt.client
    import salt.config
    import salt.exceptions

    opts = salt.config.minion_config(os.path.join(sys.argv[1], "minion"))
    opts["file_client"] = "local"
    caller = salt.client.Caller(mopts=opts)
    for line in sys.stdin:
        call = json.loads(line)
        try:
            answer = {"return": caller.cmd(call["fun"], *call.get("args", []), **call.get("kwargs", {}))}
        except salt.exceptions.SaltException as error:
            answer = {"error": str(error), "kind": type(error).__name__}
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
