"""Sub-interpreters are refused, in words, and do the main interpreter no harm."""

import subprocess
import sys
import textwrap

import pytest

# Runs `code` in a sub-interpreter of the given kind and prints the error that ends it.
RUN = """
import sys

def run(kind):
    code = "try:\\n    import oxloop\\nexcept ImportError as error:\\n"
    code += "    print(error, flush=True)\\n"
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters
        made = interpreters.create("isolated" if kind == "isolated" else "legacy")
        interpreters.exec(made, code)
    else:
        import _xxsubinterpreters as interpreters
        made = interpreters.create(isolated=kind == "isolated")
        interpreters.run_string(made, code)
    interpreters.destroy(made)
"""

USE = """
import asyncio, gc, oxloop

async def main():
    async with oxloop.TaskGroup() as group:
        for _ in range(20):
            group.create_task(oxloop.sleep(0.001))
    return "main works"

print(oxloop.run(main()), flush=True)
gc.collect()
"""


@pytest.mark.parametrize("kind", ["legacy", "isolated"])
@pytest.mark.parametrize("first", ["main", "sub"])
def test_it_is_refused_and_main_goes_on(kind: str, first: str) -> None:
    if kind == "isolated" and sys.version_info < (3, 13):
        pytest.skip("CPython itself aborts there when such an interpreter has imported asyncio")
    steps = [USE, f"run({kind!r})", USE]
    program = RUN + "\n".join(steps if first == "main" else steps[1:])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines.count("main works") == (2 if first == "main" else 1)
    (refused,) = [line for line in lines if line != "main works"]
    if kind == "legacy":
        assert refused.startswith("oxloop works in the main interpreter only")
    else:
        # CPython's words, or PyO3's, where they are asked first.
        assert "interpreter" in refused
