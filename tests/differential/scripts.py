"""Writes a program as a script that needs only Python and oxloop, and prints its trace.

The script is the program, and then the harness: the very sources of the modules that ran it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from differential.programs import Program, render
from differential.sides import NAMES, SIDES

# Each needs only those before it.
HARNESS = ("virtual_loops.py", "sides.py", "tracing.py")

TITLE = '''"""A program that does not do the same under asyncio and on the side "{side}" ({origin}).

    python difference.py {expected} asyncio > expected
    python difference.py {names} {loop} > seen
    diff expected seen

The first argument says whose names the program uses: "asyncio", "expected" (asyncio's, with what
oxloop does differently on purpose), or a module, such as oxloop. The second says whose loop it runs
on, asyncio's or oxloop's. The difference that was seen is at the end.
"""

from __future__ import annotations
'''

MAIN = """
SETTING = {setting!r}


def print_trace() -> None:
    code = compile(PROGRAM, "program", "exec")
    print(*trace(code, namespace(sys.argv[1]), sys.argv[2], SETTING).lines, sep="\\n")


if __name__ == "__main__":
    print_trace()
"""


def script(program: Program, side: str, origin: str, difference: list[str]) -> str:
    """The program as a script, which says where it comes from and how its traces differed."""
    names, loop, expected = SIDES[side]
    title = TITLE.format(
        side=side, origin=origin, names=name_of(names), loop=loop, expected=name_of(expected)
    )
    text = render(program)
    assert "'''" not in text and "\\" not in text
    return "\n".join(
        [
            title,
            f"PROGRAM = '''{text}'''",
            *(f"\n{harness_source(name)}" for name in HARNESS),
            MAIN.format(setting=program.setting),
            *(f"# {line}" for line in difference),
            "",
        ]
    )


def name_of(names: Any) -> str:
    """By which name a script finds these names."""
    return next((name for name, found in NAMES.items() if found is names), names.__name__)


def harness_source(name: str) -> str:
    """The source of a module of the harness, for a script that has what it imports already."""
    lines = Path(__file__).with_name(name).read_text().splitlines()
    left_out = ("from __future__ ", "from differential.")
    return "\n".join(line for line in lines if not line.startswith(left_out))
