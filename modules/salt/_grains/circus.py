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


def _shared(name):
    """
    A function of what the circus modules share. Salt's loader finds it in a file_roots, and not in a package.
    """
    if "circus." + name in __utils__:
        return __utils__["circus." + name]
    from saltext.circus.utils import circus as package

    return getattr(package, name)


def circus():
    """
    The grain ``circus``.
    """
    try:
        look, run, settings, control = (_shared(name) for name in ("look", "run", "settings", "control"))
    except ImportError as error:
        # Grains are asked for before the first sync is done.
        log.debug("no circus grains: %s", error)
        return {}
    configured = __opts__.get("circus")
    configured = configured if isinstance(configured, dict) else {}
    path, looked = look(configured.get("bin"))
    if path is None:
        log.debug("no circus grains: the circ binary was not found in %s", looked)
        return {}
    try:
        _, out, _ = run([path, "--version"], limit=LIMIT)
    except CommandExecutionError as error:
        log.debug("no circus grains: %s", error)
        return {}
    words = out.split()
    if len(words) != 2 or words[0] != "circ":
        return {}
    told = {"version": words[1], "path": path, "running": False, "watchers": []}
    chosen = settings(configured, bin=path, timeout=LIMIT)
    try:
        statuses = control(chosen, "status", limit=LIMIT * 2)["statuses"]
        told.update(running=True, watchers=sorted(statuses))
    except (CommandExecutionError, KeyError, TypeError) as error:
        log.debug("circus grains without watchers: %s", error)
    return {"circus": told}
