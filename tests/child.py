"""Runs one scenario of a test file in a process of its own.

``python tests/child.py FILE FUNCTION LOOP`` imports FILE by its path and calls its FUNCTION
with the factory of the loop called LOOP. An exception of the scenario ends the process with
status 1 and a traceback; a crash of the interpreter costs this process only. What the
scenario prints is its trace, which the test may compare between loops.
"""

import importlib.util
import sys

import loops


def main(path: str, function: str, loop_name: str) -> None:
    """Import the file at `path` and call `function` with the factory of `loop_name`."""
    spec = importlib.util.spec_from_file_location("scenario", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scenario"] = module
    spec.loader.exec_module(module)
    getattr(module, function)(loops.factory(loop_name))


if __name__ == "__main__":
    main(*sys.argv[1:])
