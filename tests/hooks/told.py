"""Hooks for the tests: each writes down what it is told, and answers in its own way."""

import json
import os
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def note(watcher, hook_name, more):
    kwargs = dict((key, None if 'pid' in key or key == 'time' else more[key]) for key in more)
    if 'stats' in kwargs:
        kwargs['stats'] = None
    line = {'watcher': watcher.name, 'hook': hook_name, 'kwargs': kwargs, 'status': watcher.status()}
    with open(os.path.join(HERE, 'notes'), 'a') as notes:
        notes.write(json.dumps(line, sort_keys=True, default=int) + '\n')


def yes(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)
    assert arbiter.get_watcher(watcher.name).name == watcher.name
    return True


def no(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)
    return False


def nothing(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)


def text(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)
    return 'anything'


def bad(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)
    raise ValueError('it is bad')


def twice_no(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)
    count = os.path.join(HERE, 'count')
    with open(count, 'a') as file:
        file.write('.')
    return os.path.getsize(count) > 2


def assigning(watcher, arbiter, hook_name, **kwargs):
    watcher.env['FROM_HOOK'] = hook_name
    watcher.args = ['from', hook_name]
    return True


def looking(watcher, arbiter, hook_name, pid, **kwargs):
    process = watcher.processes[pid]
    seen = {
        'name': watcher.name, 'cmd': watcher.cmd, 'numprocesses': watcher.numprocesses, 'len': len(watcher),
        'wid': process.wid, 'same pid': process.pid == pid, 'young': process.age() < 60, 'alive': process.is_alive(),
        'pids': watcher.get_active_pids() == [pid], 'option': watcher._options.get('my_option'),
        'graceful': watcher.graceful_timeout, 'stop_signal': int(watcher.stop_signal),
        'options': dict(watcher.options())['my_option'], 'others': sorted(w.name for w in arbiter.watchers),
        'count': arbiter.numwatchers(), 'endpoint': arbiter.endpoint, 'other': arbiter.get_watcher('OTHER').numprocesses,
        'delay': arbiter.check_delay, 'active': watcher.is_active(), 'res': watcher.res_name, 'children': process.children(),
        'order': [w.name for w in arbiter.iter_watchers()],
    }
    try:
        arbiter.get_watcher('nobody')
    except KeyError:
        seen['nobody'] = True
    with open(os.path.join(HERE, 'seen'), 'w') as file:
        json.dump(seen, file, sort_keys=True)
    return True


def more_stats(watcher, arbiter, hook_name, pid, stats, **kwargs):
    stats['answered'] = {'by': hook_name, 'same': stats['pid'] == pid == watcher.processes[pid].pid}
    return True


def starting_another(watcher, arbiter, hook_name, **kwargs):
    try:
        arbiter.get_watcher('other').start()
    except Exception as error:
        assert 'already running' in str(error), error
    watcher.notify_event('greeting', {'hello': 'world'})
    return True


def hanging(watcher, arbiter, hook_name, **kwargs):
    note(watcher, hook_name, kwargs)
    below = subprocess.Popen(['sleep', '1000'])
    with open(os.path.join(HERE, 'hanging'), 'w') as file:
        file.write('%d %d' % (os.getpid(), below.pid))
    below.wait()


def exiting(**kwargs):
    sys.exit(3)


def vanishing(**kwargs):
    os._exit(3)


def killed(**kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def garbage(**kwargs):
    for fd in os.listdir('/proc/self/fd'):
        if int(fd) > 2:
            try:
                os.write(int(fd), b'this is no message\n')
            except OSError:
                pass
    time.sleep(1000)


def forking(**kwargs):
    if os.fork() == 0:
        return True
    return True


def chatty(**kwargs):
    for number in range(20000):
        print('line %d of very many' % number)
    sys.stdout.write('x' * 1000000)
    return True


def closing(**kwargs):
    os.closerange(3, 256)
    time.sleep(1000)


def left_behind(watcher, arbiter, hook_name, **kwargs):
    below = subprocess.Popen(['sleep', '1000'])
    with open(os.path.join(HERE, 'left'), 'w') as file:
        file.write(str(below.pid))
    return True
