#!/usr/bin/python
# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""A section of a configuration file."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

DOCUMENTATION = r'''
---
module: circus_config
short_description: A section of a circus.ini or circus.toml, the file alone
description:
  - Edits the file that holds the value which counts, changes nothing else in it, and writes nothing if the value is there
    already. No daemon is needed, and none is told.
  - An unknown key, a value of the wrong type and a configuration that would not load are refused.
  - To bring the running daemon along, use M(circ.circus.circus_watcher), M(circ.circus.circus_socket) or
    M(circ.circus.circus_state).
options:
  config:
    description:
      - The configuration file. Files that it includes are edited where they hold the value that counts.
    type: path
    required: true
  section:
    description:
      - The section, such as V(circus) or V(watcher:web).
    type: str
    required: true
  state:
    description:
      - With V(absent), the keys of O(options) and O(unset) are not stated; without any key, the whole section is not there.
    type: str
    choices: [present, absent]
    default: present
  options:
    description:
      - Keys and values. A null takes a key away.
    type: dict
  unset:
    description:
      - Keys that the section must not state.
    type: list
    elements: str
  create:
    description:
      - Add the section if it does not exist. V(true) if not given.
    type: bool
  force:
    description:
      - Write keys and sections that nobody reads, too.
    type: bool
  backup:
    description:
      - Keep a copy of each file that is changed, beside it.
    type: bool
extends_documentation_fragment:
  - circ.circus.run.host
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: circ.circus.circus_watcher
  - module: circ.circus.circus_socket
  - module: circ.circus.circus_state
  - module: circ.circus.circus_info
author:
  - circ maintainers (!UNKNOWN)
'''

EXAMPLES = r'''
---
- name: The daemon checks twice a second
  circ.circus.circus_config:
    config: /etc/circ/circus.ini
    section: circus
    options:
      check_delay: 0.5
  notify: Restart circ

- name: A plugin is gone
  circ.circus.circus_config:
    config: /etc/circ/circus.ini
    section: plugin:flapping
    state: absent

# A whole file is best written by copy or template; circ says whether it is sound.
- name: The configuration
  ansible.builtin.template:
    src: circus.ini.j2
    dest: /etc/circ/circus.ini
    validate: circ config check %s
    mode: "0644"
'''

RETURN = r'''
---
schema:
  description: The version of this report.
  returned: always
  type: str
  sample: circ.state/1
resource:
  description: V(config).
  returned: always
  type: str
name:
  description: The section.
  returned: always
  type: str
  sample: circus
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
  sample: "circus: check_delay unset -> 0.5"
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
  sample: {"check_delay": {"old": null, "new": "0.5"}}
before:
  description: What was found in the file.
  returned: always
  type: dict
after:
  description: What is there now, in the same shape.
  returned: always
  type: dict
restarted:
  description: Always V(false).
  returned: always
  type: bool
actions:
  description: What was done, in order.
  returned: always
  type: list
  elements: dict
  sample: [{"target": "file", "op": "set", "key": "check_delay", "status": "done"}]
backups:
  description: Copies that were kept of changed files.
  returned: when O(backup) is set and a file changed
  type: list
  elements: str
'''

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.circ.circus.plugins.module_utils.circ import host_arguments, run


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec=dict(
            host_arguments(),
            config=dict(type='path', required=True),
            section=dict(type='str', required=True),
            state=dict(type='str', choices=['present', 'absent'], default='present'),
            options=dict(type='dict'),
            unset=dict(type='list', elements='str'),
            create=dict(type='bool'),
            force=dict(type='bool'),
            backup=dict(type='bool'),
        ),
        supports_check_mode=True,
    )
    run(module, 'circus_config')


if __name__ == '__main__':
    main()
