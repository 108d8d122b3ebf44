# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""Hands a task to the circ on the host and its report to Ansible.

What the arguments mean, and which options, values and sections there are, only circ knows: they are passed through as
they came, on standard input, so that no secret stands in a list of processes.
"""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

import json
import re
import subprocess

# The shapes of reports that this collection reads.
SCHEMAS = {'circ.state': 1, 'circ.observed': 1}

# Shorter values than this are no secrets worth the damage of masking every place where the same letters stand.
SHORTEST_SECRET = 8

MASK = '********'


def host_arguments():
    """What every module takes."""
    return dict(
        executable=dict(type='path'),
        show_secrets=dict(type='bool', no_log=False),
    )


def run_arguments():
    """What the modules take that bring something about."""
    return dict(
        host_arguments(),
        config=dict(type='path'),
        endpoint=dict(type='str'),
        timeout=dict(type='float'),
        settle=dict(type='float'),
        backup=dict(type='bool'),
        start_daemon=dict(type='bool'),
        live=dict(type='bool'),
        persist=dict(type='bool'),
    )


def run(module, name):
    """Does the task with circ's own module of this name, and ends the program with its report."""
    secrets = SecretKeeper(module)
    circ = executable(module)
    task = dict((key, value) for key, value in module.params.items() if value is not None and key != 'executable')
    task['_ansible_check_mode'] = module.check_mode
    task['_ansible_diff'] = module._diff  # pylint: disable=protected-access
    code, out, err = ask(module, [circ, 'ansible', '--module', name, '-'], json.dumps(task))
    try:
        report = json.loads(out)
        if not isinstance(report, dict):
            raise ValueError('it is no object')
    except ValueError as error:
        module.fail_json(msg=no_report(circ, code, err, error), rc=code, stdout=out, stderr=err)
    problem = schema_problem(circ, report.get('schema'))
    if problem:
        module.fail_json(msg=problem, schema=report.get('schema'))
    for warning in report.pop('warnings', None) or []:
        module.warn(warning)
    report['invocation'] = {'module_args': secrets.masked()}
    if report.pop('failed', True):
        module.fail_json(**dict({'msg': 'circ tells of a failure without a reason'}, **report))
    module.exit_json(**report)


def ask(module, command, text):
    """Runs a command with this text on its standard input: its exit code, output and errors.

    Unlike run_command it bears a program that ends without reading: what that has to say is wanted all the more.
    """
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(text.encode('utf-8'))
    except OSError as error:
        module.fail_json(msg='cannot run %s: %s' % (command[0], error))
    return process.returncode, out.decode('utf-8', 'replace'), err.decode('utf-8', 'replace')


def executable(module):
    """The path of circ; without one the task fails and says what to do."""
    given = module.params.get('executable')
    circ = module.get_bin_path(given or 'circ', required=False, opt_dirs=['/usr/local/bin'])
    if circ is None:
        module.fail_json(msg='there is no %s on this host: install circ (the role circ.circus.daemon does), or give its path '
                             'as executable' % (given or 'circ in the PATH or /usr/local/bin'))
    return circ


def schema_problem(circ, schema):
    """Why a report of this schema cannot be read; None if it can."""
    parts = re.match(r'^(circ\.[a-z]+)/(\d+)$', schema if isinstance(schema, str) else '')
    known = SCHEMAS.get(parts.group(1)) if parts else None
    if known is None:
        return '%s answered with a report of schema %r, which is none of circ\'s: is it circ at all?' % (circ, schema)
    told = int(parts.group(2))
    if told == known:
        return None
    ours = '%s/%d' % (parts.group(1), known)
    if told < known:
        return ('%s is older than this collection: it reports in %s, the collection reads %s. Update circ on the host'
                % (circ, schema, ours))
    return ('%s is newer than this collection: it reports in %s, the collection reads %s. Update the collection '
            'circ.circus on the controller' % (circ, schema, ours))


def no_report(circ, code, err, error):
    """What to say of a program that printed no report."""
    if code == 64 and 'ansible' in err:
        return ('%s is older than this collection: it does not know the command "circ ansible". Update circ on the host'
                % circ)
    said = ': ' + err.strip() if err.strip() else ''
    return '%s ended with exit code %d and printed no report (%s)%s' % (circ, code, error, said)


class SecretKeeper(object):
    """Keeps the values of environment variables out of results, and nothing else.

    Ansible masks the letters of a secret wherever they stand in a result: a variable DEBUG=1 would black out every 1.
    circ masks the values of variables where they stand. So only those values are left to Ansible that are long enough
    for a secret and are not said openly by another argument; and the arguments themselves are masked here.
    """

    def __init__(self, module):
        self.params = module.params
        desired = self.params.get('desired')
        openly = dict((key, value) for key, value in self.params.items() if key not in ('env', 'desired'))
        openly = json.dumps(openly, default=str)
        values = module.no_log_values
        if isinstance(desired, dict):
            # Of a whole desired state, only the variables in it are secrets.
            values = variables(desired)
        elif is_path(desired) or self.params.get('show_secrets'):
            values = ()
        module.no_log_values = set(
            value for value in values if len(value) >= SHORTEST_SECRET and value not in openly)

    def masked(self):
        """The arguments as a result may show them."""
        if self.params.get('show_secrets'):
            return self.params
        masked = dict(self.params)
        if masked.get('env'):
            masked['env'] = dict((key, MASK) for key in masked['env'])
        desired = masked.get('desired')
        if isinstance(desired, dict):
            masked['desired'] = mask_variables(desired)
        elif desired and not is_path(desired):
            masked['desired'] = MASK
        return masked


def is_path(desired):
    """A desired state is given as the path of a file on the host; circ tells it from the text of a document so."""
    return isinstance(desired, str) and '\n' not in desired and not desired.startswith('{')


def is_env(key):
    """The key of a desired state that holds variables."""
    return key == 'env' or str(key).startswith('env:')


def mask_variables(node):
    """The same desired state with the values of variables masked."""
    if not isinstance(node, dict):
        return node
    return dict((key, mask_all(value) if is_env(key) else mask_variables(value)) for key, value in node.items())


def mask_all(node):
    """The same mapping with every value masked."""
    if isinstance(node, dict):
        return dict((key, mask_all(value)) for key, value in node.items())
    return MASK


def variables(node, inside=False):
    """The values of the variables in a desired state, as text."""
    if isinstance(node, dict):
        return [text for key, value in node.items() for text in variables(value, inside or is_env(key))]
    return [str(node)] if inside else []
