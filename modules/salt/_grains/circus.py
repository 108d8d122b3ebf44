"""
What circus is on this minion: ``circus:version`` of the binary, ``circus:path``, ``circus:running``, and the names of
the ``circus:watchers`` if a daemon answers.

Nothing is told where there is no binary. A daemon that hangs costs one second, and nothing in here ever fails.
"""

import logging

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

#: Seconds that the daemon, and the binary, may take.
LIMIT = 1.0


def circus():
    """
    The grain ``circus``.
    """
    configured = __opts__.get("circus")
    configured = configured if isinstance(configured, dict) else {}
    try:
        path, looked = __utils__["circus.look"](configured.get("bin"))
    except KeyError:
        # Not synchronised yet, or a master looks at its own grains.
        return {}
    if path is None:
        log.debug("no circus grains: the circ binary was not found in %s", looked)
        return {}
    try:
        _, out, _ = __utils__["circus.run"]([path, "--version"], limit=LIMIT)
    except CommandExecutionError as error:
        log.debug("no circus grains: %s", error)
        return {}
    words = out.split()
    if len(words) != 2 or words[0] != "circ":
        return {}
    told = {"version": words[1], "path": path, "running": False, "watchers": []}
    chosen = __utils__["circus.settings"](configured, bin=path, timeout=LIMIT)
    try:
        statuses = __utils__["circus.control"](chosen, "status", limit=LIMIT * 2)["statuses"]
        told.update(running=True, watchers=sorted(statuses))
    except (CommandExecutionError, KeyError, TypeError) as error:
        log.debug("circus grains without watchers: %s", error)
    return {"circus": told}
