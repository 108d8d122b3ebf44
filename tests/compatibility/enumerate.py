"""Lists what the installed circus has, as JSON: a list of names for each kind of thing.

Most of it is found in circus's own tables and signatures; what stands only in its code (keys that are read one by one,
events, hooks) is found in the syntax trees of its modules.
"""
import argparse
import ast
import importlib
import inspect
import json
import os
import sys

import circus
from circus import config, sockets, stream, util, watcher
from circus.commands import get_commands
from circus.commands.util import validate_option
from circus.plugins import CircusPlugin

HOME = os.path.dirname(circus.__file__)


def tree(name):
    with open(os.path.join(HOME, name)) as file:
        return ast.parse(file.read())


def calls(name, function):
    """The arguments of every call of this function or method in a module."""
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            if called == function:
                yield [a.value if isinstance(a, ast.Constant) else None for a in node.args]


def first(name, function):
    return sorted({args[0] for args in calls(name, function) if args and isinstance(args[0], str)})


def modules(folder=""):
    return [os.path.join(folder, f) for f in os.listdir(os.path.join(HOME, folder)) if f.endswith(".py")]


def parameters(function, *without):
    names = inspect.signature(function).parameters
    return [n for n, p in names.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and n not in without]


def circus_keys():
    keys = {args[1] for args in calls("config.py", "dget") if len(args) > 1 and args[0] == "circus"}
    return sorted(keys)


def watcher_keys():
    keys = set(config.watcher_defaults()) | set(parameters(watcher.Watcher.__init__, "self", "loop"))
    for node in ast.walk(tree("config.py")):
        # `opt == 'key'`, `opt in ('key', ...)`
        if isinstance(node, ast.Compare) and getattr(node.left, "id", None) == "opt":
            for value in ast.walk(node.comparators[0]):
                if isinstance(value, ast.Constant):
                    keys.add(value.value)
    for node in ast.walk(ast.parse(inspect.getsource(validate_option))):
        if isinstance(node, ast.Tuple):
            keys.update(v.value for v in node.elts if isinstance(v, ast.Constant))
    # `sockets` are the arbiter's own; the others stand for keys with a dot or an underscore behind them.
    return sorted({k.rstrip("._") for k in keys if k not in ("sockets", "name", "hooks.", "rlimit_")})


def socket_keys():
    keys = set(parameters(sockets.CircusSocket.__init__, "self", "name", "fd"))
    keys.update(args[0] for args in calls("sockets.py", "get") if args and isinstance(args[0], str))
    return sorted(keys - {"name"})


def subclasses(of):
    found = set()
    for sub in of.__subclasses__():
        found |= {sub} | subclasses(sub)
    return found


def plugins():
    found = {}
    for file in modules("plugins"):
        name = "circus.plugins." + os.path.basename(file)[:-3]
        if name.endswith("__init__"):
            continue
        try:
            importlib.import_module(name)
        except ImportError:  # it needs a library that is not there; its source is read below
            pass
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef):
                keys = set()
                for call in ast.walk(node):
                    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "get":
                        target = call.func.value
                        if "config" in (getattr(target, "id", None), getattr(target, "attr", None)):
                            keys.add(call.args[0].value)
                found[node.name] = ([getattr(b, "id", None) for b in node.bases], keys)
    plugins = {}
    for name, (bases, keys) in found.items():
        line, todo = set(keys), list(bases)
        is_plugin = False
        while todo:
            base = todo.pop()
            is_plugin |= base == CircusPlugin.__name__
            if base in found:
                line |= found[base][1]
                todo += found[base][0]
        if is_plugin and not name.startswith("Base"):
            plugins[name] = sorted(line - {"name"})
    return plugins


def plugin_keys():
    """What every plugin has, whatever its class."""
    keys = {args[0] for args in calls("plugins/__init__.py", "get") if args and args[0] in ("active", "use")}
    for name, variable in (("plugins/__init__.py", "config"), ("config.py", "plugin")):
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", None) == variable:
                if isinstance(node.slice, ast.Constant):
                    keys.add(node.slice.value)
    return sorted(keys - {"name"})


def streams():
    found = {}
    for name, value in vars(stream).items():
        if inspect.isclass(value) and name.endswith("Stream"):
            keys = set()
            for c in value.__mro__:
                if c.__module__.startswith("circus.stream") and "__init__" in vars(c):
                    keys |= set(parameters(c.__init__, "self"))
            found[name] = sorted(keys)
    return found


def flags():
    """What the parser of each program knows; the program is stopped where it parses."""
    class Parsed(Exception):
        pass

    def stop(parser, args=None, namespace=None):
        raise Parsed(parser)

    argparse.ArgumentParser.parse_args = stop
    found = {}
    for program, module in (("circusd", "circus.circusd"), ("circusctl", "circus.circusctl"),
                            ("circus-top", "circus.stats.client"), ("circusd-stats", "circus.stats"),
                            ("circus-plugin", "circus.plugins")):
        sys.argv = [program]
        try:
            importlib.import_module(module).main()
        except Parsed as parsed:
            actions = parsed.args[0]._actions
            found[program] = sorted(a.option_strings[-1] if a.option_strings else a.dest for a in actions)
    return found


def commands():
    found = {}
    for name, command in get_commands().items():
        keys = set(command.properties) | {option[1] for option in command.options}
        # What a command reads from its message, and what its command line puts into one.
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[type(command).__module__]))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr == "get" and getattr(node.func.value, "id", None) in ("props", "properties"):
                    keys.add(node.args[0].value)
                if node.func.attr == "make_message":
                    keys.update(k.arg for k in node.keywords if k.arg)
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", None) in ("props", "properties"):
                if isinstance(node.slice, ast.Constant):
                    keys.add(node.slice.value)
        found[name] = sorted(keys)
    return found


def environment():
    """The variables that its programs look at, or give to workers."""
    found = set()
    for file in modules() + modules("stats") + modules("plugins"):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if node.value.isupper() and node.value.startswith(("CIRCUS", "AUTO_", "COMP_")):
                    found.add(node.value)
    return sorted(found)


def hooks():
    names = set(first("watcher.py", "call_hook"))
    for file in modules() + modules("commands"):
        names.update(n for n in first(file, "call_hook"))
    for node in ast.walk(tree("watcher.py")):
        if isinstance(node, ast.Constant) and node.value == "extended_stats":
            names.add(node.value)
    return sorted(names)


events = set()
for file in modules():
    events.update(first(file, "notify_event"))

json.dump({
    "circus": circus_keys(),
    "watcher": watcher_keys(),
    "socket": socket_keys(),
    "commands": commands(),
    "events": sorted(events),
    "hooks": hooks(),
    "streams": streams(),
    "plugin": plugin_keys(),
    "plugins": plugins(),
    "statistics": sorted(util.get_info(with_childs=True)),
    "flags": flags(),
    "environment": environment(),
}, sys.stdout, indent=1)
