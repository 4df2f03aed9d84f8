"""What `oxloop run` changes in asyncio, in the program and in its Python child processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from programs import oxloop, python

KIND = "print(type(asyncio.new_event_loop()).__module__.partition('.')[0])"


def test_every_way_to_make_a_loop(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        """
import asyncio, asyncio.unix_events, unittest, warnings
warnings.simplefilter("ignore", DeprecationWarning)

made = []
def note(loop):
    made.append(type(loop).__module__.partition(".")[0])
    loop.close()

note(asyncio.new_event_loop())
note(asyncio.SelectorEventLoop())
note(asyncio.SelectorEventLoop(None))
if hasattr(asyncio, "EventLoop"):
    note(asyncio.EventLoop())
    assert asyncio.EventLoop is asyncio.SelectorEventLoop
if hasattr(asyncio, "DefaultEventLoopPolicy"):
    note(asyncio.DefaultEventLoopPolicy().new_event_loop())
    class Policy(asyncio.DefaultEventLoopPolicy):
        pass
    asyncio.set_event_loop_policy(Policy())
    note(asyncio.new_event_loop())
    asyncio.set_event_loop_policy(None)
with asyncio.Runner() as runner:
    made.append(type(runner.get_loop()).__module__.partition(".")[0])
class Case(unittest.IsolatedAsyncioTestCase):
    async def test(self):
        made.append(type(asyncio.get_running_loop()).__module__.partition(".")[0])
unittest.TextTestRunner(stream=open("/dev/null", "w")).run(Case("test"))
print(set(made), len(made) >= 5)
"""
    )
    ended = oxloop("run", "program.py", cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("{'oxloop'} True\n", "")


def test_the_names_of_loop_classes_stay_classes(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        """
import asyncio, asyncio.unix_events, selectors
real = asyncio.unix_events.SelectorEventLoop
loop = asyncio.new_event_loop()
assert isinstance(loop, asyncio.SelectorEventLoop)
assert isinstance(loop, asyncio.AbstractEventLoop)
assert issubclass(type(loop), asyncio.SelectorEventLoop)
loop.close()

# A selector can only be meant for asyncio's own loop.
loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
assert isinstance(loop, real) and isinstance(loop, asyncio.SelectorEventLoop)
loop.close()

# Loops made by asyncio's own class, before or after, pass as well.
loop = real()
assert isinstance(loop, asyncio.SelectorEventLoop)
loop.close()

# A subclass is asyncio's loop with the subclass's methods.
class Mine(asyncio.SelectorEventLoop):
    def extra(self):
        return "extra"
loop = Mine()
assert type(loop) is Mine and isinstance(loop, real) and loop.extra() == "extra"
assert loop.run_until_complete(asyncio.sleep(0, "done")) == "done"
loop.close()
class Other(asyncio.SelectorEventLoop):
    pass
assert not isinstance(Other, asyncio.SelectorEventLoop)
assert not issubclass(int, asyncio.SelectorEventLoop) and not issubclass(Mine, Other)
assert repr(asyncio.SelectorEventLoop) == repr(real)
print("ok")
"""
    )
    ended = oxloop("run", "program.py", cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("ok\n", "")


def test_children_inherit(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        f"""
import subprocess, sys
code = {f"import asyncio; {KIND}"!r}
grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
subprocess.run([sys.executable, "-c", code])
subprocess.run([sys.executable, "-c", grandchild, code])
"""
    )
    assert oxloop("run", "program.py", cwd=tmp_path).stdout == "oxloop\noxloop\n"


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_multiprocessing_inherits(tmp_path: Path, method: str) -> None:
    (tmp_path / "program.py").write_text(
        f"""
import asyncio, multiprocessing, sys

def child(queue):
    async def main():
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]
    queue.put((asyncio.run(main()), sys.argv))

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    print(queue.get(timeout=50))
    process.join()
    print(process.exitcode)
"""
    )
    ended = oxloop("run", "program.py", "x", cwd=tmp_path)
    assert ended.stdout == "('oxloop', ['program.py', 'x'])\n0\n", ended.stderr


def test_another_sitecustomize_still_runs(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import asyncio\nprint('theirs')\n")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    code = f"import asyncio, sitecustomize; print(sitecustomize.__file__); {KIND}"
    ended = oxloop("run", "-c", code, cwd=tmp_path, PYTHONPATH=path)
    # Twice: once for the interpreter that reads the command line, once for the program.
    expected = f"theirs\ntheirs\n{site / 'sitecustomize.py'}\noxloop\n"
    assert (ended.stdout, ended.stderr) == (expected, "")


def test_an_error_in_another_sitecustomize_is_reported_as_always(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import nothing_of_that_name\n")
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    plain = python("-c", "print(1)", cwd=tmp_path, PYTHONPATH=path)
    ours = oxloop("run", "-c", "print(1)", cwd=tmp_path, PYTHONPATH=path)
    assert "Error in sitecustomize" in plain.stderr
    assert ours.stderr == plain.stderr * 2  # again once for the command line
    assert ours.stdout == "1\n"


def test_start_up_imports_neither_asyncio_nor_oxloop(tmp_path: Path) -> None:
    code = "import sys; print([n for n in sys.modules if n.split('.')[0] in ('asyncio','oxloop')])"
    assert oxloop("run", "-c", code, cwd=tmp_path).stdout == "[]\n"


def test_a_program_that_imports_oxloop_before_asyncio(tmp_path: Path) -> None:
    code = f"import oxloop, asyncio; {KIND}; oxloop.run(asyncio.sleep(0))"
    ended = oxloop("run", "-c", code, cwd=tmp_path)
    assert (ended.stdout, ended.stderr) == ("oxloop\n", "")


def test_asyncio_is_otherwise_as_it_was(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys, inspect; print(asyncio.__spec__, asyncio.__loader__.get_source("
        "'asyncio') == inspect.getsource(asyncio), type(asyncio.__loader__).__name__, "
        "vars(asyncio.__loader__), [type(f).__name__ for f in sys.meta_path], "
        "asyncio.Task.__module__, asyncio.Future.__module__)"
    )
    plain = python("-c", code, cwd=tmp_path).stdout.partition("SourceFileLoader object at")
    ours = oxloop("run", "-c", code, cwd=tmp_path).stdout.partition("SourceFileLoader object at")
    assert ours[0] == plain[0]
    assert ours[2].partition(">")[2] == plain[2].partition(">")[2]


def test_a_python_without_oxloop_says_so_and_goes_on(tmp_path: Path) -> None:
    broken = tmp_path / "oxloop"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('not built for this Python')")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = f"import asyncio; {KIND}"
    ended = oxloop("run", "-c", code, child, cwd=tmp_path.parent)
    assert ended.stdout == "oxloop\n"
    # The child finds the broken package first, since -c puts its current folder first.
    code = code.replace("sys.argv[1]]", "sys.argv[1]], cwd=sys.argv[2]")
    ended = oxloop("run", "-c", code, child, str(tmp_path), cwd=tmp_path.parent)
    assert ended.stdout == "asyncio\n"
    line = f"{sys.executable} cannot import oxloop (not built for this Python); it runs on asyncio"
    assert ended.stderr == f"oxloop: {line}\n"
