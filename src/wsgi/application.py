import os
import signal
import sys
import traceback

# What is done around an application: it is found, its library made cooperative, its hooks called. What is here comes before
# worker.py in the text that a worker runs.


def find(name):
    """The object that `module:object` or `module.object` names."""
    if ":" in name:
        module, _, path = name.partition(":")
    elif "." in name:
        module, _, path = name.rpartition(".")
    else:
        module, path = name, ""
    try:
        found = __import__(module, None, None, ["*"])
    except ImportError as error:
        # package.module in dotted form, without an object
        if ":" in name or not path or getattr(error, "name", None) not in (module, module.partition(".")[0]):
            raise
        found, path = __import__(name, None, None, ["*"]), ""
    call = False
    if path.endswith("()"):
        path, call = path[:-2], True
    if path:
        try:
            for part in path.split("."):
                found = getattr(found, part)
        except AttributeError:
            if ":" in name:
                raise
            found, path = __import__(name, None, None, ["*"]), ""
    if not path:
        for usual in ("application", "app", name.rpartition(".")[2]):
            if callable(getattr(found, usual, None)):
                return getattr(found, usual)
        raise AttributeError("module %r has no application: say which object it is, %s:NAME" % (name, name))
    return found() if call else found


def hello_app(environ, start_response):
    start_response("200 OK", [("Content-type", "text/plain")])
    return [b"hello world"]


def paste_app(place):
    """The application of a file of PasteDeploy; its logging is set up as the file says."""
    path, mark, name = place.partition("#")
    path = os.path.abspath(path)
    import configparser
    known = configparser.ConfigParser()
    known.read([path])
    if known.has_section("loggers"):
        import logging.config
        logging.config.fileConfig(path, {"__file__": path, "here": os.path.dirname(path)})
    try:
        from paste.deploy import loadapp
    except ImportError:
        raise ImportError("paste:%s needs PasteDeploy (pip install PasteDeploy)" % place) from None
    return loadapp("config:" + path + mark + name)


def cooperate(library, channel):
    """Makes the standard library cooperative; the channel as it is then."""
    if not library:
        return channel
    try:
        if library == "gevent":
            from gevent import monkey, socket as green
            monkey.noisy = False
            monkey.patch_all()
            return green.socket(fileno=os.dup(channel.fileno()))
        import eventlet
        from eventlet.greenio import GreenSocket
        copy = channel.dup()
        eventlet.monkey_patch()
        return GreenSocket(copy)
    except ImportError as error:
        if getattr(error, "name", None) != library:
            raise
        raise ImportError(
            "%s is not installed for %s: pip install %s, or leave it out with --no-monkey"
            % (library, sys.executable, library)) from None


def is_asgi(application):
    """True for a coroutine function, or what has one for its __call__: such an application is ASGI, not WSGI."""
    def is_coroutine_function(function):
        while type(function).__name__ == "partial":
            function = function.func
        function = getattr(function, "__func__", function)
        # inspect's CO_COROUTINE, without importing it; asgiref and inspect mark wrappers by these names
        code = getattr(function, "__code__", None)
        if code and code.co_varnames[:code.co_argcount][-3:] == ("scope", "receive", "send"):
            # a function that hands out what is awaited
            return True
        return bool(getattr(code, "co_flags", 0) & 0x80
                    or getattr(function, "_is_coroutine", None) or getattr(function, "_is_coroutine_mark", None))

    if isinstance(application, type):
        # called with scope, receive and send, and awaited
        return hasattr(application, "__await__")
    return is_coroutine_function(application) or is_coroutine_function(getattr(application, "__call__", None))


def leave_signals_to_the_front():
    """A terminal and some supervisors tell everybody; the front lets this process go when its requests are done."""
    numbers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    ours = os.getpid()

    def ignore(number, frame):
        if os.getpid() != ours:
            # Python 3.6 does not say when it forks
            signal.signal(number, numbers[number])
            os.kill(os.getpid(), number)

    def forked():
        # what the application forks is its own: multiprocessing ends such processes with SIGTERM
        for number, usual in numbers.items():
            if signal.getsignal(number) is ignore:
                signal.signal(number, usual)

    for number in numbers:
        signal.signal(number, ignore)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forked)


def hook(kind, called, told, channel):
    """Calls a hook with what Chaussette would tell it: the options, as attributes."""
    import argparse
    try:
        said = "Running the %s-hook %r" % (kind, called)
        channel.send(b"L" + said.encode("utf-8", "replace")[:4000])
    except OSError:
        # the front has gone: it has said already that it ends
        pass
    try:
        called(argparse.Namespace(**told))
    except BaseException:
        if kind == "pre":
            raise
        traceback.print_exc()
        sys.stderr.flush()


