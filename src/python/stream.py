"""Feeds an output stream class of the user's with what workers say: frames come in, calls are made."""

import importlib
import json
import os
import struct
import sys
import threading
import time
import traceback


def resolve(target):
    """The class of a dotted name: `package.module.Class` or `package.module:Class`."""
    module, _, name = target.partition(':') if ':' in target else target.rpartition('.')
    return getattr(importlib.import_module(module), name)


def leave_with(parent):
    """A class that hangs does not outlive the daemon for long."""
    while os.getppid() == parent:
        time.sleep(2)
    time.sleep(5)
    os._exit(1)


def main(incoming, fd):
    os.set_inheritable(fd, False)
    sys.argv = ['circ-stream']
    setup = json.loads(incoming.readline().decode('utf-8'))
    sys.path[:] = [path for path in sys.path if path]
    sys.path.extend(path for path in setup['paths'] if path not in sys.path)
    watch = threading.Thread(target=leave_with, args=(os.getppid(),))
    watch.daemon = True
    watch.start()
    stream = resolve(setup['class'])(**setup['options'])
    if hasattr(stream, 'open'):
        stream.open()
    while True:
        head = incoming.read(4)
        if len(head) < 4:
            break
        frame = incoming.read(struct.unpack('<I', head)[0])
        about, _, data = frame.partition(b'\n')
        entry = json.loads(about.decode('utf-8'))
        entry['data'] = data
        try:
            stream(entry)
        except Exception:
            # circus logs it and goes on
            traceback.print_exc()
        sys.stdout.flush()
    if hasattr(stream, 'close'):
        stream.close()
    sys.stdout.flush()


main(circ_incoming, circ_fd)  # noqa: F821
