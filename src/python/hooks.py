"""Calls the Python hooks of a circ daemon: one message comes in, one call is made, one message goes out."""

import copy
import functools
import importlib
import json
import logging
import os
import queue
import signal
import site
import sys
import threading
import time
import traceback
import types

MAIN = os.getpid()


class Link(object):
    """The connection to the daemon: lines of JSON in both directions."""

    def __init__(self, incoming, fd):
        self.incoming = incoming
        self.fd = fd
        self.calls = queue.Queue()
        self.answers = {}
        self.number = 0
        self.sending = threading.Lock()
        reader = threading.Thread(target=self.read)
        reader.daemon = True
        reader.start()

    def read(self):
        for line in self.incoming:
            message = json.loads(line.decode('utf-8'))
            if 'answer' in message:
                waiting = self.answers.pop(message['answer'], None)
                if waiting is not None:
                    waiting.put(message.get('value'))
            else:
                self.calls.put(message)
        # the daemon is gone: whoever still works gets a moment
        self.calls.put(None)
        time.sleep(2)
        os._exit(1)

    def send(self, message):
        data = (json.dumps(message, default=str) + '\n').encode('utf-8')
        with self.sending:
            while data:
                data = data[os.write(self.fd, data):]

    def ask(self, **question):
        """Asks the daemon something and waits for what it says."""
        box = queue.Queue()
        with self.sending:
            self.number += 1
            number = self.number
            self.answers[number] = box
        question['ask'] = number
        self.send(question)
        return box.get()

    def command(self, command, **properties):
        """Gives the daemon a command. What takes time goes on after the answer."""
        reply = self.ask(what='request', request={'command': command, 'properties': properties})
        if reply.get('status') != 'ok':
            raise ValueError(reply.get('reason', 'refused'))
        return reply


class Begun(object):
    """What the daemon goes on with while the hook returns: stands in for a tornado future."""

    def done(self):
        return True

    def result(self, timeout=None):
        return None

    def exception(self, timeout=None):
        return None

    def add_done_callback(self, callback):
        callback(self)

    def __await__(self):
        return None
        yield

    __iter__ = __await__


def stat(pid):
    with open('/proc/%d/stat' % pid, 'rb') as file:
        return file.read().rpartition(b')')[2].split()


def children_of(pid, recursive=False):
    below = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                below.setdefault(int(stat(int(name))[1]), []).append(int(name))
            except (OSError, IndexError):
                pass
    found, todo = [], [pid]
    while todo:
        own = sorted(below.get(todo.pop(0), []))
        found.extend(own)
        if recursive:
            todo.extend(own)
    return found


class Process(object):
    """A worker."""

    def __init__(self, watcher, snapshot):
        self.watcher = watcher
        self.name = watcher.name
        self.pid = snapshot['pid']
        self.wid = snapshot['wid']
        self.started = snapshot['started']
        self.stopping = snapshot['stopping']
        for key in ('cmd', 'args', 'working_dir', 'shell', 'uid', 'gid', 'env', 'executable', 'rlimits'):
            setattr(self, key, getattr(watcher, key, None))

    def age(self):
        return time.time() - self.started

    @property
    def status(self):
        try:
            return 1 if stat(self.pid)[0] in (b'Z', b'X') else 0
        except (OSError, IndexError):
            return 2

    def is_alive(self):
        return self.status == 0

    def children(self, recursive=False):
        return children_of(self.pid, recursive)

    def is_child(self, pid):
        return pid in self.children()

    def send_signal(self, sig):
        os.kill(self.pid, sig)

    def send_signal_child(self, pid, signum):
        if pid in self.children(True):
            os.kill(pid, signum)

    def send_signal_children(self, signum, recursive=False):
        for pid in self.children(recursive):
            try:
                os.kill(pid, signum)
            except OSError:
                pass

    def stop(self):
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)

    def info(self):
        try:
            import psutil
            process = psutil.Process(self.pid)
            memory = process.memory_info()
            return {'pid': self.pid, 'wid': self.wid, 'age': self.age(), 'started': self.started,
                    'cmdline': os.path.basename((process.cmdline() or [''])[0]), 'username': process.username(),
                    'nice': process.nice(), 'cpu': process.cpu_percent(), 'mem': round(process.memory_percent(), 1),
                    'mem_info1': memory.rss, 'mem_info2': memory.vms,
                    'children': [{'pid': pid} for pid in self.children()]}
        except ImportError:
            fields = stat(self.pid)
            return {'pid': self.pid, 'wid': self.wid, 'age': self.age(), 'started': self.started,
                    'nice': int(fields[16]), 'mem_info1': int(fields[21]) * os.sysconf('SC_PAGE_SIZE'),
                    'mem_info2': int(fields[20]), 'children': [{'pid': pid} for pid in self.children()]}

    def __repr__(self):
        return '<Process pid=%s wid=%s>' % (self.pid, self.wid)


class Watcher(object):
    """A watcher as hooks see it. What is assigned to its options takes effect in the daemon after the call."""

    def __init__(self, link, arbiter, snapshot):
        self._link = link
        self.arbiter = arbiter
        self.name = snapshot['name']
        self.res_name = self.name.lower().replace(' ', '_')
        self._status = snapshot['status']
        self._before = snapshot['options']
        for key, value in copy.deepcopy(self._before).items():
            if key != 'hooks':
                setattr(self, key, value)
        self._options = copy.deepcopy(snapshot['extra'])
        self._extra = snapshot['extra']
        self._listed = snapshot['listed']
        self._hooks = self._before.get('hooks') or {}
        self.stdout_stream_conf = self._before.get('stdout_stream')
        self.stderr_stream_conf = self._before.get('stderr_stream')
        self.stdout_stream = self.stderr_stream = self.stream_redirector = None
        self.evpub_socket = self.loop = None
        self.sockets = {}
        self.processes = {}
        for process in snapshot['processes']:
            self.processes[process['pid']] = Process(self, process)

    @property
    def hooks(self):
        found = {}
        for name, (target, _) in self._hooks.items():
            if not target.startswith('exec:'):
                found[name] = functools.partial(self.call_hook, name)
        return found

    def _changes(self):
        changes = {}
        for key, value in self._before.items():
            if key not in ('hooks', 'stdout_stream', 'stderr_stream') and getattr(self, key, value) != value:
                changes[key] = getattr(self, key)
        for key, value in self._options.items():
            if key not in self._extra or self._extra[key] != value:
                changes[key] = value
        return changes

    def __len__(self):
        return len(self.processes)

    def __repr__(self):
        return '<circus.Watcher name=%s numprocesses=%s>' % (self.name, self.numprocesses)

    @property
    def pids(self):
        return list(self.processes)

    def get_active_processes(self):
        return [process for process in self.processes.values() if process.is_alive()]

    def get_active_pids(self):
        return [process.pid for process in self.get_active_processes()]

    def status(self):
        return self._status

    def is_stopped(self):
        return self._status == 'stopped'

    def is_stopping(self):
        return self._status == 'stopping'

    def is_active(self):
        return self._status == 'active'

    def options(self, *args):
        found = []
        for key in sorted(self._listed):
            if key in self._options:
                found.append((key, self._options[key]))
            else:
                key = key + '_conf' if key.endswith('_stream') else key
                found.append((key, getattr(self, key, None)))
        return found

    def info(self, extended=False):
        return dict((pid, process.info()) for pid, process in self.processes.items())

    def process_info(self, pid, extended=False):
        return self.processes[int(pid)].info()

    def notify_event(self, topic, msg):
        self._link.ask(what='notify', watcher=self.name, topic=topic, message=msg)

    def call_hook(self, hook_name, **kwargs):
        target, ignored = self._hooks.get(hook_name, ('', False))
        if not target or target.startswith('exec:'):
            return True
        try:
            result = resolve(target)(watcher=self, arbiter=self.arbiter, hook_name=hook_name, **kwargs)
            self.notify_event('hook_success', {'name': hook_name, 'time': time.time()})
        except Exception as error:
            traceback.print_exc()
            result = ignored or hook_name in ('before_stop', 'after_stop', 'before_signal', 'after_signal')
            self.notify_event('hook_failure', {'name': hook_name, 'time': time.time(), 'error': str(error)})
        return result

    def send_signal(self, pid, signum):
        if pid in self.processes:
            allowed = self.call_hook('before_signal', pid=pid, signum=signum)
            if allowed or signum == signal.SIGKILL:
                self.processes[pid].send_signal(signum)
            self.call_hook('after_signal', pid=pid, signum=signum)

    def send_signal_process(self, process, signum, recursive=False):
        children = process.children(recursive)
        self.send_signal(process.pid, signum)
        for pid in children:
            try:
                os.kill(pid, signum)
            except OSError:
                pass

    def send_signal_child(self, pid, child_id, signum):
        self.processes[int(pid)].send_signal_child(int(child_id), signum)

    def send_signal_children(self, pid, signum, recursive=False):
        self.processes[int(pid)].send_signal_children(signum, recursive)

    def set_opt(self, key, val):
        if key.startswith('hooks') or '.' in key or key.startswith('rlimit_'):
            self._link.command('set', name=self.name, options={key: val})
        elif key in self._before:
            setattr(self, key, val)
        else:
            self._options[key] = val
        return 0

    def _begin(self, command, **properties):
        self._link.command(command, name=self.name, **properties)
        return Begun()

    def start(self):
        return self._begin('start')

    def stop(self):
        return self._begin('stop')

    def restart(self):
        return self._begin('restart')

    def reload(self, graceful=True, sequential=False):
        return self._begin('reload', graceful=graceful, sequential=sequential)

    def incr(self, nb=1):
        return self._begin('incr', nb=nb)

    def decr(self, nb=1):
        return self._begin('decr', nb=nb)

    def set_numprocesses(self, np):
        self.numprocesses = np
        return Begun()

    def kill_process(self, process, stop_signal=None, graceful_timeout=None):
        more = {}
        if stop_signal is not None:
            more['signum'] = stop_signal
        if graceful_timeout is not None:
            more['graceful_timeout'] = graceful_timeout
        return self._begin('kill', pid=process.pid, **more)

    def kill_processes(self, stop_signal=None, graceful_timeout=None):
        for process in self.get_active_processes():
            self.kill_process(process, stop_signal, graceful_timeout)
        return Begun()

    def spawn_process(self, recovery_wid=None):
        return True

    def spawn_processes(self):
        return Begun()

    manage_processes = reap_and_manage_processes = spawn_processes

    def reap_processes(self):
        """The daemon sees by itself who has exited."""


class Arbiter(object):
    """The daemon as hooks see it."""

    def __init__(self, link, facts):
        self._link = link
        self._known = {}
        self._facts = facts
        self.endpoint = facts['endpoint']
        self.pubsub_endpoint = facts['pubsub_endpoint']
        self.stats_endpoint = facts.get('stats_endpoint')
        self.multicast_endpoint = facts.get('multicast_endpoint')
        self.check_delay = facts['check_delay']
        self.warmup_delay = facts['warmup_delay']
        self.pid = facts['pid']
        self.alive = self.running = True
        self.debug = False
        self.context = self.loop = self.ctrl = self.evpub_socket = None
        self.sockets = {}

    def _take(self, snapshot):
        watcher = Watcher(self._link, self, snapshot)
        self._known[watcher.name.lower()] = watcher
        return watcher

    def _names(self):
        return self._link.ask(what='names')

    def get_watcher(self, name):
        known = self._known.get(name.lower())
        if known is not None:
            return known
        snapshot = self._link.ask(what='watcher', name=name)
        if snapshot is None:
            raise KeyError(name)
        return self._take(snapshot)

    @property
    def watchers(self):
        found = []
        for name in self._names():
            try:
                found.append(self.get_watcher(name))
            except KeyError:
                pass
        return found

    @property
    def _watchers_names(self):
        return dict((watcher.name.lower(), watcher) for watcher in self.watchers)

    def iter_watchers(self, reverse=True):
        return iter(sorted(self.watchers, key=lambda watcher: watcher.priority, reverse=reverse))

    def numwatchers(self):
        return len(self._names())

    def numprocesses(self):
        return sum(len(watcher) for watcher in self.watchers)

    def statuses(self):
        return dict((watcher.name, watcher.status()) for watcher in self.watchers)

    def get_socket(self, name):
        return None

    def _begin(self, command, **properties):
        self._link.command(command, **properties)
        return Begun()

    def start_watcher(self, watcher):
        return watcher.start()

    def start_watchers(self, watcher_iter_func=None):
        return self._begin('start')

    def stop_watchers(self, watcher_iter_func=None):
        return self._begin('stop')

    def restart(self, inside_circusd=False, watcher_iter_func=None):
        return self._begin('restart')

    def reload(self, graceful=True, sequential=False):
        return self._begin('reload', graceful=graceful, sequential=sequential)

    def reload_from_config(self, config_file=None, inside_circusd=False):
        return self._begin('reloadconfig')

    def add_watcher(self, name, cmd, **kw):
        return self._begin('add', name=name, cmd=cmd, args=kw.pop('args', None), options=kw)

    def rm_watcher(self, name, nostop=False):
        return self._begin('rm', name=name, nostop=nostop)

    def stop(self):
        return self._begin('quit')

    def reap_processes(self):
        """The daemon sees by itself who has exited."""

    def manage_watchers(self):
        return Begun()


def without_circus():
    """What hooks import of circus most, where the library is not installed."""
    try:
        import circus  # noqa: F401
        return
    except ImportError:
        pass
    package = types.ModuleType('circus')
    package.__path__ = []
    package.logger = logging.getLogger('circus')
    process = types.ModuleType('circus.process')
    process.RUNNING, process.DEAD_OR_ZOMBIE, process.UNEXISTING, process.OTHER = 0, 1, 2, 3
    util = types.ModuleType('circus.util')
    util.resolve_name = lambda name, silent=False, reload=False: resolve(name)
    package.process, package.util = process, util
    sys.modules['circus'], sys.modules['circus.process'], sys.modules['circus.util'] = package, process, util


RESOLVED = {}


def resolve(target, generation=0):
    """The callable of a dotted name: `package.module.name` or `package.module:name`."""
    known = RESOLVED.get(target)
    if known is not None and known[0] >= generation:
        return known[1]
    if ':' in target:
        module, name = target.split(':', 1)
    elif '.' in target:
        module, name = target.rsplit('.', 1)
    else:
        module, name = target, None
    if known is not None or generation:
        importlib.invalidate_caches()
        if module in sys.modules:
            try:
                importlib.reload(sys.modules[module])
            except Exception:
                traceback.print_exc()
    found = importlib.import_module(module)
    for part in name.split('.') if name else ():
        try:
            found = getattr(found, part)
        except AttributeError:
            raise ImportError('module %r has no attribute %r' % (module, part))
    if not callable(found):
        raise ImportError('%r is not callable' % target)
    RESOLVED[target] = (generation, found)
    return found


def words(error):
    text = str(error)
    if isinstance(error, Exception) and text:
        return text
    return '%s: %s' % (type(error).__name__, text) if text else type(error).__name__


def started():
    """The processes that hooks have started and that go on: they are spared if a later hook hangs."""
    found = []
    for task in os.listdir('/proc/self/task'):
        try:
            with open('/proc/self/task/%s/children' % task) as file:
                found.extend(int(pid) for pid in file.read().split())
        except OSError:
            pass
    return found


def perform(link, call):
    for path in call['paths']:
        if path not in sys.path:
            site.addsitedir(path)
    target = call['target']
    if call.get('resolve'):
        resolve(target, call['generation'])
        return {'result': True}
    arbiter = Arbiter(link, call['arbiter'])
    watcher = arbiter._take(call['watcher'])
    hook = resolve(target, call['generation'])
    try:
        if 'stats' in call:
            for pid, stats in call['stats']:
                hook(watcher, arbiter, 'extended_stats', pid=pid, stats=stats)
            return {'result': True, 'stats': call['stats']}
        result = hook(watcher=watcher, arbiter=arbiter, hook_name=call['hook'], **call['kwargs'])
        return {'result': bool(result)}
    finally:
        if os.getpid() == MAIN:
            for known in arbiter._known.values():
                changes = known._changes()
                if changes:
                    link.ask(what='assign', watcher=known.name, changes=changes)


def main(incoming, fd):
    os.set_inheritable(fd, False)
    sys.argv = ['circ-hooks']
    first = json.loads(incoming.readline().decode('utf-8'))
    # circusd does not look into the current directory; here it comes last, after that of the configuration
    sys.path[:] = [path for path in sys.path if path]
    sys.path.extend(path for path in first['paths'] if path not in sys.path)
    without_circus()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter('%(levelname)s: %(message)s'))
    logger = logging.getLogger('circus')
    if not logger.handlers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    link = Link(incoming, fd)
    link.send({'ready': sys.version.split()[0]})
    while True:
        call = link.calls.get()
        if call is None:
            sys.exit(0)
        outcome = {}
        try:
            outcome = perform(link, call)
        except BaseException as error:
            if os.getpid() == MAIN:
                traceback.print_exc()
                outcome = {'error': words(error)}
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                # what a hook has forked does not go on as a second one of this
                if os.getpid() != MAIN:
                    os._exit(0)
        outcome['call'] = call['call']
        outcome['left'] = started()
        link.send(outcome)


main(circ_incoming, circ_fd)  # noqa: F821
