# Copyright: circ maintainers
# Apache License 2.0 (see https://www.apache.org/licenses/LICENSE-2.0)

"""What the modules make of a circ's answer, with programs that stand in for circ."""

from __future__ import absolute_import, division, print_function
__metaclass__ = type

import json
import stat

import pytest

from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.circ.circus.plugins.modules import (
    circus_config, circus_info, circus_socket, circus_state, circus_watcher)

REPORT = {'schema': 'circ.state/1', 'changed': True, 'failed': False, 'msg': 'web: numprocesses 2 -> 4'}


@pytest.fixture
def circ(tmp_path):
    """Makes a program that keeps what it is given and answers what it is told to."""
    def make(answer, code=0, err=''):
        text = answer if isinstance(answer, str) else json.dumps(answer)
        tmp_path.joinpath('answer').write_text(text)
        tmp_path.joinpath('err').write_text(err)
        program = tmp_path / 'circ'
        program.write_text(
            '#!/bin/sh\ncd %s\nprintf "%%s\\n" "$@" > argv\ncat > stdin\ncat answer\ncat err >&2\nexit %d\n' % (tmp_path, code))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program
    return make


def play(capsys, module, arguments):
    """Runs a module as Ansible does, and reads its result."""
    with patch_module_args(arguments):
        with pytest.raises(SystemExit):
            module.main()
    return json.loads(capsys.readouterr().out)


def test_arguments_go_through_untouched_on_standard_input(circ, capsys, tmp_path):
    arguments = {'name': 'web', 'procs': 4, 'options': {'nobody_knows': 1}, 'executable': str(circ(REPORT)),
                 '_ansible_check_mode': True, '_ansible_diff': True}
    result = play(capsys, circus_watcher, arguments)
    assert result['changed'] is True and result['msg'] == 'web: numprocesses 2 -> 4'
    assert (tmp_path / 'argv').read_text().split() == ['ansible', '--module', 'circus_watcher', '-']
    told = json.loads((tmp_path / 'stdin').read_text())
    assert told == {'name': 'web', 'state': 'started', 'procs': 4, 'options': {'nobody_knows': 1},
                    '_ansible_check_mode': True, '_ansible_diff': True}


@pytest.mark.parametrize('module,arguments', [
    (circus_watcher, {'name': 'web'}),
    (circus_socket, {'name': 'web', 'port': 1}),
    (circus_config, {'section': 'circus', 'config': '/x', 'options': {'a': 1}}),
    (circus_state, {'desired': {}}),
    (circus_info, {}),
])
@pytest.mark.parametrize('schema,says', [
    ('circ.state/0', 'is older than this collection: it reports in circ.state/0, the collection reads circ.state/1'),
    ('circ.state/2', 'is newer than this collection: it reports in circ.state/2, the collection reads circ.state/1'),
    ('circ.observed/7', 'Update the collection circ.circus'),
    ('other/1', 'is it circ at all?'),
    (None, 'is it circ at all?'),
    (1, 'is it circ at all?'),
])
def test_reports_of_another_schema_are_refused(circ, capsys, module, arguments, schema, says):
    program = circ(dict(REPORT, schema=schema))
    result = play(capsys, module, dict(arguments, executable=str(program)))
    assert result['failed'] is True and result.get('changed', False) is False
    assert says in result['msg'] and str(program) in result['msg']


def test_a_failure_is_a_failure_with_its_reason(circ, capsys):
    program = circ({'schema': 'circ.state/1', 'changed': True, 'failed': True, 'msg': 'web: why'}, code=1)
    result = play(capsys, circus_watcher, {'name': 'web', 'executable': str(program)})
    assert (result['failed'], result['changed'], result['msg']) == (True, True, 'web: why')


@pytest.mark.parametrize('answer,code,err,says', [
    ('', 64, "error: unrecognized subcommand 'ansible'", 'is older than this collection: it does not know'),
    ('Segfault', 139, 'oh', 'ended with exit code 139 and printed no report'),
    ('[]', 0, '', 'printed no report (it is no object)'),
])
def test_a_program_without_a_report_is_told(circ, capsys, answer, code, err, says):
    result = play(capsys, circus_watcher, {'name': 'web', 'executable': str(circ(answer, code, err))})
    assert result['failed'] is True and says in result['msg']


def test_a_program_that_does_not_read_is_heard(circ, capsys, tmp_path):
    program = circ('')
    program.write_text('#!/bin/sh\necho "error: unrecognized subcommand \'ansible\'" >&2\nexit 64\n')
    desired = {'env': {'LONG': 'x' * 1000000}}
    result = play(capsys, circus_state, {'desired': desired, 'executable': str(program)})
    assert 'does not know the command' in result['msg']
    program.write_text('\x7fELF')
    result = play(capsys, circus_watcher, {'name': 'web', 'executable': str(program)})
    assert result['failed'] is True and 'cannot run' in result['msg']


def test_warnings_are_ansibles_warnings(circ, capsys):
    program = circ(dict(REPORT, warnings=['mind the gap']))
    result = play(capsys, circus_watcher, {'name': 'web', 'executable': str(program)})
    assert 'mind the gap' in json.dumps(result['warnings'])
    assert not result.get('deprecations')


def test_a_host_without_circ_is_told(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    result = play(capsys, circus_watcher, {'name': 'web', 'executable': str(tmp_path / 'nothing')})
    assert result['failed'] is True and 'install circ' in result['msg']


def test_secrets_are_masked_and_nothing_else(circ, capsys, monkeypatch):
    logged = []
    monkeypatch.setattr(basic.AnsibleModule, 'log', lambda self, msg, **kwargs: logged.append(str(msg)))
    report = dict(REPORT, after={'numprocesses': 1, 'cmd': 'run production'}, msg='it said: hunter2hunter2')
    env = {'DEBUG': 1, 'TOKEN': 'hunter2hunter2', 'SITE': 'production'}
    arguments = {'name': 'web', 'cmd': 'run production', 'env': env, 'executable': str(circ(report))}
    result = play(capsys, circus_watcher, arguments)
    assert result['after'] == {'numprocesses': 1, 'cmd': 'run production'}
    assert result['invocation']['module_args']['env'] == {'DEBUG': '********', 'TOKEN': '********', 'SITE': '********'}
    assert 'hunter2' not in json.dumps(result) and 'hunter2' not in ''.join(logged)
    shown = play(capsys, circus_watcher, dict(arguments, show_secrets=True))
    assert shown['invocation']['module_args']['env']['TOKEN'] == 'hunter2hunter2'
    assert 'hunter2' not in ''.join(logged)


@pytest.mark.parametrize('desired,shown', [
    ({'env': {'A': 'hunter2hunter2'}, 'watcher': {'web': {'cmd': 'a command', 'env': {'B': 'hunter2hunter2'}}}},
     {'env': {'A': '********'}, 'watcher': {'web': {'cmd': 'a command', 'env': {'B': '********'}}}}),
    ('[env]\nA = hunter2hunter2\n', '********'),
    ('/etc/circ/state.d', '/etc/circ/state.d'),
])
def test_variables_of_a_whole_state_are_masked(circ, capsys, desired, shown):
    report = dict(REPORT, before={'path': '/etc/circ/state.d', 'cmd': 'a command'})
    result = play(capsys, circus_state, {'desired': desired, 'executable': str(circ(report))})
    assert result['before'] == report['before']
    assert result['invocation']['module_args']['desired'] == shown
    assert 'hunter2' not in json.dumps(result)
