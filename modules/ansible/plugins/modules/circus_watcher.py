#!/usr/bin/python
# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""A watcher is there, so configured, and its workers run."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

DOCUMENTATION = r'''
---
module: circus_watcher
short_description: Watchers of circ or circusd, in file and daemon
description:
  - Brings a watcher to a state, in the configuration file and in the running daemon, by the smallest action. A number of
    workers changes without a restart; an option that needs new workers causes a graceful reload.
  - Success means that the workers run and stay, not that a command was accepted.
  - The second run changes nothing.
options:
  name:
    description:
      - The watcher's name.
    type: str
    required: true
  state:
    description:
      - V(started) means it is there, so configured, and its workers run. V(present) leaves alone whether they run.
        V(stopped) means it is there, so configured, and stopped. V(absent) means it is not there.
      - V(restarted), V(reloaded) and V(signalled) are orders for handlers. Each is a change every time; in check mode nothing
        is sent.
    type: str
    choices: [started, present, stopped, absent, restarted, reloaded, signalled]
    default: started
  procs:
    description:
      - How many workers.
    type: int
  cmd:
    description:
      - The command to run. It is needed for a watcher that does not exist yet.
    type: str
  args:
    description:
      - Arguments of the command, as text or as a list.
    type: raw
  options:
    description:
      - Any other options of a watcher section, such as C(graceful_timeout) or C(rlimit_nofile). Which there are, and what
        they may be, is for circ to say; C(circ --help) on the host and its reference list them.
      - A null takes an option away, so that its default counts.
    type: dict
  env:
    description:
      - Variables of the workers' environment, in the watcher's own section C([env:NAME]). A null takes one away.
      - Their values are masked in results and diffs.
    type: dict
  sockets:
    description:
      - Sockets that the daemon holds and the workers inherit, by name. Each is C(HOST:PORT), C(unix:PATH), or a mapping of
        the keys of a socket section.
    type: dict
  unset:
    description:
      - Options that the section must not state, so that their defaults count. C(env.NAME) takes a variable away.
    type: list
    elements: str
  restart_on_change:
    description:
      - What a changed option does to running workers. V(auto) reloads them gracefully if the option needs new ones, V(never)
        leaves that to you, V(always) restarts them for any option but the number of workers.
      - V(auto) if not given.
    type: str
    choices: [auto, never, always]
  with_env:
    description:
      - With O(state=absent), the section C([env:NAME]) goes as well.
    type: bool
  with_socket:
    description:
      - With O(state=absent), the sockets that no other watcher uses go as well.
    type: bool
  signal:
    description:
      - With O(state=signalled), the signal, a number or a name. V(HUP) if not given.
    type: str
extends_documentation_fragment:
  - circ.circus.run
  - circ.circus.run.host
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
seealso:
  - module: circ.circus.circus_socket
  - module: circ.circus.circus_state
  - module: circ.circus.circus_config
  - module: circ.circus.circus_info
author:
  - circ maintainers (!UNKNOWN)
'''

EXAMPLES = r'''
---
- name: Four web workers run
  circ.circus.circus_watcher:
    name: web
    cmd: /opt/web/server --fd $(circus.sockets.web)
    procs: 4
    options:
      graceful_timeout: 10
      rlimit_nofile: 4096
    env:
      DATABASE_URL: "{{ database_url }}"
    sockets:
      web: 127.0.0.1:8000
    config: /etc/circ/circus.ini

- name: One worker more or less is one argument
  circ.circus.circus_watcher:
    name: web
    procs: 5
    config: /etc/circ/circus.ini

- name: The importer is there, but does not run
  circ.circus.circus_watcher:
    name: importer
    cmd: /opt/importer
    state: stopped
    config: /etc/circ/circus.ini

- name: The old watcher is gone
  circ.circus.circus_watcher:
    name: legacy
    state: absent
    with_env: true
    config: /etc/circ/circus.ini

# As a handler: notify it from the task that changes what the workers read.
- name: Reload web
  circ.circus.circus_watcher:
    name: web
    state: reloaded
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
  description: V(watcher).
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
  sample: "web: numprocesses 2 -> 4"
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
  sample: {"numprocesses": {"old": 2, "new": 4}}
before:
  description: What was found, in the C(file) and in the C(daemon).
  returned: always
  type: dict
  sample: {"file": {"numprocesses": 2}, "daemon": {"numprocesses": 2, "status": "active", "running": 2}}
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
  sample: [{"target": "file", "op": "set", "key": "numprocesses", "status": "done"}]
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
            state=dict(
                type='str',
                choices=['started', 'present', 'stopped', 'absent', 'restarted', 'reloaded', 'signalled'],
                default='started',
            ),
            procs=dict(type='int'),
            cmd=dict(type='str'),
            args=dict(type='raw'),
            options=dict(type='dict'),
            env=dict(type='dict', no_log=True),
            sockets=dict(type='dict'),
            unset=dict(type='list', elements='str'),
            restart_on_change=dict(type='str', choices=['auto', 'never', 'always']),
            with_env=dict(type='bool'),
            with_socket=dict(type='bool'),
            signal=dict(type='str'),
        ),
        supports_check_mode=True,
    )
    run(module, 'circus_watcher')


if __name__ == '__main__':
    main()
