import _thread
import os
import sys
import time


class Watched:
    """The files that the application consists of. Tells the front of the first that changes.

    Taken before anything is made cooperative: its thread is a real one.
    """

    def __init__(self, descriptor, sleep=time.sleep, begin=_thread.start_new_thread):
        self.descriptor, self.sleep, self.begin = descriptor, sleep, begin
        self.more = set()
        self.known = {}

    def failed(self, error):
        """The application could not be imported: the modules that were at it are not among those of Python any more."""
        seen = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            if isinstance(error, SyntaxError) and error.filename:
                self.more.add(error.filename)
            frames = error.__traceback__
            while frames is not None:
                self.more.add(frames.tb_frame.f_code.co_filename)
                frames = frames.tb_next
            if isinstance(error, ImportError) and error.name:
                # one that is not there may come
                for place in sys.path:
                    path = os.path.join(place or ".", *error.name.split("."))
                    self.more.update((path + ".py", os.path.join(path, "__init__.py")))
            error = error.__cause__ or error.__context__
        self.look()

    def look(self):
        """The first file that is another one than before, if there is one."""
        files = set(self.more)
        for module in list(sys.modules.values()):
            try:
                path = vars(module).get("__file__")
            except TypeError:
                continue
            if isinstance(path, str):
                files.add(path)
        changed = None
        for path in files:
            try:
                about = os.stat(path)
            except (OSError, ValueError):
                # an editor may be about to put it there
                if path in self.more:
                    self.known.setdefault(path, None)
                continue
            now = about.st_mtime_ns, about.st_size, about.st_ino
            if self.known.setdefault(path, now) != now:
                self.known[path] = now
                changed = changed or path
        return changed

    def run(self):
        while True:
            changed = self.look()
            if changed:
                try:
                    os.write(self.descriptor, b"C" + os.path.abspath(changed).encode("utf-8", "replace")[:4000])
                except OSError:
                    # the front lets this process go
                    pass
                return
            self.sleep(0.2)

    def start(self):
        self.begin(self.run, ())


