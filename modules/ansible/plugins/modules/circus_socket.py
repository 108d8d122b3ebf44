#!/usr/bin/python
# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""A socket that the daemon holds."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

DOCUMENTATION = r'''
---
module: circus_socket
short_description: Sockets that circ or circusd holds for its workers
description:
  - A socket section is in the configuration file, and the running daemon listens on it, or neither.
  - A socket whose address did not change stays open.
options:
  name:
    description:
      - The socket's name.
    type: str
    required: true
  state:
    description:
      - Whether it is there.
    type: str
    choices: [present, absent]
    default: present
  host:
    description:
      - The address to listen on.
    type: str
  port:
    description:
      - The port to listen on.
    type: int
  path:
    description:
      - The path of a Unix socket.
    type: path
  options:
    description:
      - Other keys of a socket section, such as C(backlog) or C(umask). A null takes one away.
    type: dict
  unset:
    description:
      - Keys that the section must not state.
    type: list
    elements: str
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
  - module: circ.circus.circus_state
  - module: circ.circus.circus_config
  - module: circ.circus.circus_info
author:
  - circ maintainers (!UNKNOWN)
'''

EXAMPLES = r'''
---
- name: The daemon listens on port 8000
  circ.circus.circus_socket:
    name: web
    host: 127.0.0.1
    port: 8000
    options:
      backlog: 512
    config: /etc/circ/circus.ini

- name: The daemon listens on a Unix socket
  circ.circus.circus_socket:
    name: local
    path: /run/web.sock
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
  description: V(socket).
  returned: always
  type: str
name:
  description: Its name.
  returned: always
  type: str
  sample: web
state:
  description: The state that was asked for.
  returned: always
  type: str
check:
  description: Nothing was changed, because of check mode.
  returned: always
  type: bool
  sample: false
msg:
  description: What became of it, in one line.
  returned: always
  type: str
  sample: "socket:web: added"
comment:
  description: The same as RV(msg).
  returned: always
  type: str
error:
  description: Why it failed.
  returned: always
  type: str
changes:
  description: What changed, or would change. Each key has C(old) and C(new).
  returned: always
  type: dict
  sample: {"port": {"old": "8000", "new": "8001"}}
before:
  description: What was found, in the C(file) and in the C(daemon).
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
  sample: [{"target": "file", "op": "set", "key": "port", "status": "done"}]
backups:
  description: Copies that were kept of changed files.
  returned: when O(backup) is set and a file changed
  type: list
  elements: str
'''

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.circ.circus.plugins.module_utils.circ import run, run_arguments


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec=dict(
            run_arguments(),
            name=dict(type='str', required=True),
            state=dict(type='str', choices=['present', 'absent'], default='present'),
            host=dict(type='str'),
            port=dict(type='int'),
            path=dict(type='path'),
            options=dict(type='dict'),
            unset=dict(type='list', elements='str'),
        ),
        supports_check_mode=True,
    )
    run(module, 'circus_socket')


if __name__ == '__main__':
    main()
