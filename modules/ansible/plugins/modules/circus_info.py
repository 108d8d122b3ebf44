#!/usr/bin/python
# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""What there is."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

DOCUMENTATION = r'''
---
module: circus_info
short_description: What circ's configuration file and its daemon say
description:
  - Tells what the file says and what the daemon says of watchers, side by side, and the daemon's sockets and options.
    It changes nothing.
options:
  names:
    description:
      - The watchers. All of them if not given.
    type: list
    elements: str
  config:
    description:
      - The configuration file. The C(endpoint) in its C([circus]) section is where the daemon is.
    type: path
  endpoint:
    description:
      - The daemon's endpoint. It wins over the configuration's.
    type: str
  timeout:
    description:
      - Seconds for the whole run. 60 if not given.
    type: float
  live:
    description:
      - V(false) looks at the file only; no daemon is needed.
    type: bool
extends_documentation_fragment:
  - circ.circus.run.host
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: circ.circus.circus_watcher
  - module: circ.circus.circus_socket
  - module: circ.circus.circus_state
  - module: circ.circus.circus_config
author:
  - circ maintainers (!UNKNOWN)
'''

EXAMPLES = r'''
---
- name: Look
  circ.circus.circus_info:
    config: /etc/circ/circus.ini
  register: circus

- name: As many workers run as the file says
  ansible.builtin.assert:
    that: circus.watchers.web.daemon.pids | length == circus.watchers.web.file.numprocesses
'''

RETURN = r'''
---
schema:
  description: The version of this report.
  returned: always
  type: str
  sample: circ.observed/1
circ_version:
  description: The version of circ on the host.
  returned: success
  type: str
  sample: 0.1.0
config:
  description: The configuration file.
  returned: when O(config) is given
  type: str
  sample: /etc/circ/circus.ini
endpoint:
  description: Where the daemon is.
  returned: unless O(live=false)
  type: str
  sample: tcp://127.0.0.1:5555
watchers:
  description:
    - The watchers by name. Each has a key C(file) with the options that the file states, and a key C(daemon) with all options
      and with C(status) and C(pids). A side on which it does not exist is null; one that was not looked at is left out.
  returned: success
  type: dict
  sample: {"web": {"file": {"numprocesses": 2}, "daemon": {"numprocesses": 2, "status": "active", "pids": [17, 18]}}}
sockets:
  description: The sockets that the daemon holds.
  returned: unless O(live=false)
  type: list
  elements: dict
  sample: [{"name": "web", "fd": 7, "host": "127.0.0.1", "port": 8000, "backlog": 2048}]
circus:
  description: The options of the daemon.
  returned: unless O(live=false)
  type: dict
  sample: {"check_delay": 5.0}
'''

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.circ.circus.plugins.module_utils.circ import host_arguments, run


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec=dict(
            host_arguments(),
            names=dict(type='list', elements='str'),
            config=dict(type='path'),
            endpoint=dict(type='str'),
            timeout=dict(type='float'),
            live=dict(type='bool'),
        ),
        supports_check_mode=True,
    )
    run(module, 'circus_info')


if __name__ == '__main__':
    main()
