"""Refuses sub-interpreters: the first thing that `import oxloop` does.

The extension's start refuses them too, but runs once per process; this runs once per interpreter.
"""

from oxloop._oxloop import _expect_main_interpreter

_expect_main_interpreter()
