# Runs at the start of every Python process below `oxloop run`, before the program.
#
# Facts: the folder of this file stands first in PYTHONPATH, so `site` imports this file instead
# of any other sitecustomize. The interpreter may be any Python of the machine, also a very old
# one or one without oxloop, and most processes never import asyncio.
#
# Decision: do next to nothing. Take this folder off sys.path (children get it from the
# environment), leave a note to be opened when asyncio is imported, and run the sitecustomize
# that would have run. Syntax that any Python reads; no imports that start-up has not done.
#
# What can still go wrong: a Python started with -I, -E or -S, or with another PYTHONPATH, does
# not come here and runs on asyncio.

import os
import sys


class AsyncioImport(object):
    """A finder that waits for `import asyncio`, then has it taken over once it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != "asyncio":
            return None
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for finder in list(sys.meta_path):
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec(name, path, target) if find_spec else None
            if spec is not None:
                self.watch(spec.loader)
                return spec
        return None

    def watch(self, loader):
        # The loader stays the one that it was, for those who ask it for sources or resources.
        exec_module = loader.exec_module

        def exec_then_take_over(module):
            del loader.exec_module
            exec_module(module)
            take_over()

        loader.exec_module = exec_then_take_over


def take_over():
    try:
        from oxloop import _takeover
    except ImportError as error:
        sys.stderr.write(
            "oxloop: %s cannot import oxloop (%s); it runs on asyncio\n" % (sys.executable, error)
        )
    else:
        _takeover.take_over()


def start():
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    if os.environ.get("OXLOOP") == "1" and sys.version_info >= (3, 11):
        if "asyncio" in sys.modules:
            take_over()
        else:
            sys.meta_path.insert(0, AsyncioImport())


def run_the_other_sitecustomize():
    del sys.modules["sitecustomize"]
    try:
        import sitecustomize  # noqa: F401  (the next one on sys.path, if any)
    except ImportError as error:
        if getattr(error, "name", None) not in (None, "sitecustomize"):
            raise
        sys.modules["sitecustomize"] = this_module


this_module = sys.modules[__name__]
start()
run_the_other_sitecustomize()
