# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""What the modules of this collection have in common."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type


class ModuleDocFragment(object):
    DOCUMENTATION = r'''
options:
  config:
    description:
      - The circus.ini or circus.toml to edit. The C(endpoint) in its C([circus]) section is where the daemon is.
      - Without it only the daemon is managed.
    type: path
  endpoint:
    description:
      - The daemon's endpoint. It wins over the configuration's.
    type: str
  timeout:
    description:
      - Seconds for the whole run. 60 if not given.
    type: float
  settle:
    description:
      - Seconds that the workers must stay before they count as running. 1 if not given.
    type: float
  backup:
    description:
      - Keep a copy of each file that is changed, beside it.
    type: bool
  start_daemon:
    description:
      - If no daemon listens, start one on the configuration file.
    type: bool
  live:
    description:
      - V(false) edits the file only; no daemon is needed.
    type: bool
  persist:
    description:
      - V(false) changes the daemon only; the file is read for its endpoint and stays as it is.
    type: bool
'''

    # What every module takes.
    HOST = r'''
options:
  executable:
    description:
      - The circ on the host. Without it C(circ) is looked for on the C(PATH) and in C(/usr/local/bin).
    type: path
  show_secrets:
    description:
      - Show the values of environment variables in results and diffs. They are masked otherwise.
    type: bool
requirements:
  - circ on the managed host. It is one static file; the role C(circ.circus.daemon) installs it.
attributes:
  check_mode:
    description: Can run in check_mode and tell exactly what would change, without changing anything.
  diff_mode:
    description: Tells what changed, or would change, in files and in the daemon.
  platform:
    description: Platforms the managed host may run.
    support: full
    platforms: linux
'''
