#!/usr/bin/python
# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""A whole desired state."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

DOCUMENTATION = r'''
---
module: circus_state
short_description: A whole desired state of circ or circusd
description:
  - Brings many watchers, sockets, plugins and options of the daemon to a state in one transaction. Everything is checked
    before the first write, and if the daemon refuses, file and daemon go back to what they were.
options:
  desired:
    description:
      - The desired state. A mapping with the keys C(watcher), C(socket), C(plugin), C(env) and C(circus); or the text of a
        TOML, JSON or circus.ini document, as a lookup gives it; or the path of such a file, or of a directory of them, on the
        managed host.
      - The values of variables in it are masked in results and diffs.
    type: raw
    required: true
  prune:
    description:
      - Watchers, sockets and plugins that it does not name go, from file and daemon.
    type: bool
extends_documentation_fragment:
  - circ.circus.run
  - circ.circus.run.host
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: circ.circus.circus_watcher
  - module: circ.circus.circus_socket
  - module: circ.circus.circus_config
  - module: circ.circus.circus_info
author:
  - circ maintainers (!UNKNOWN)
'''

EXAMPLES = r'''
---
- name: The site is as described here
  circ.circus.circus_state:
    desired:
      circus:
        warmup_delay: 1
      watcher:
        web:
          cmd: /opt/web/server --fd $(circus.sockets.web)
          numprocesses: 4
          use_sockets: true
        importer:
          cmd: /opt/importer
          state: stopped
      socket:
        web:
          host: 127.0.0.1
          port: 8000
    prune: true
    config: /etc/circ/circus.ini

- name: The site is as a file on the controller says
  circ.circus.circus_state:
    desired: "{{ lookup('ansible.builtin.template', 'site.toml.j2') }}"
    config: /etc/circ/circus.ini
'''

RETURN = r'''
---
schema:
  description: The version of this report.
  returned: always
  type: str
  sample: circ.state/1
resource:
  description: V(state).
  returned: always
  type: str
name:
  description: Where the desired state was read from.
  returned: always
  type: str
  sample: desired
check:
  description: Nothing was changed, because of check mode.
  returned: always
  type: bool
  sample: false
msg:
  description: What became of it, in one line.
  returned: always
  type: str
  sample: "desired: web: numprocesses 2 -> 4"
comment:
  description: The same as RV(msg).
  returned: always
  type: str
error:
  description: Why it failed.
  returned: always
  type: str
changes:
  description: What changed, or would change, by watcher, socket and section.
  returned: always
  type: dict
  sample: {"web": {"numprocesses": {"old": 2, "new": 4}}}
before:
  description: What was found, by watcher, socket and section.
  returned: always
  type: dict
after:
  description: What is there now, in the same shape.
  returned: always
  type: dict
restarted:
  description: Running workers were replaced.
  returned: always
  type: bool
actions:
  description: What was done, in order.
  returned: always
  type: list
  elements: dict
  sample: [{"target": "file", "op": "set", "key": "numprocesses", "status": "done", "name": "web"}]
backups:
  description: Copies that were kept of changed files.
  returned: when O(backup) is set and a file changed
  type: list
  elements: str
resources:
  description: A report for each watcher, socket and section, in the shape of a report of M(circ.circus.circus_watcher).
  returned: always
  type: list
  elements: dict
'''

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.circ.circus.plugins.module_utils.circ import run, run_arguments


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec=dict(
            run_arguments(),
            desired=dict(type='raw', required=True, no_log=True),
            prune=dict(type='bool'),
        ),
        supports_check_mode=True,
    )
    run(module, 'circus_state')


if __name__ == '__main__':
    main()
