"""The report as plain text and as Markdown, from the same cells."""

from __future__ import annotations

from summary import REFERENCE_LOOP, Cell, Table

LEGEND = (
    f"value (ratio to {REFERENCE_LOOP}; least..greatest ratio within a round): above 1 is better. "
    "Bars are least ratios: which loop, to which, and what it has."
)


def number(value: float) -> str:
    """Three to four digits that count: 7.04, 70.4, 704, 7042, 70.4k, 704k."""
    if value < 0:
        return "-" + number(-value)
    if value >= 99_950:
        return f"{value / 1000:.0f}k"
    if value >= 9_999.5:
        return f"{value / 1000:.1f}k"
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def cell_text(cell: Cell) -> str:
    """`742 (1.00; 0.98..1.03)`, `FAIL`, or `-` for what was not measured."""
    if cell.failure:
        return "FAIL"
    if cell.value is None:
        return "-"
    text = number(cell.value)
    if cell.ratio is None or cell.loop == REFERENCE_LOOP:
        return text
    spread = ""
    if cell.ratio_min is not None and cell.ratio_max is not None:
        spread = f"; {cell.ratio_min:.2f}..{cell.ratio_max:.2f}"
    return f"{text} ({cell.ratio:.2f}{spread})"


def _lines(table: Table) -> list[list[str]]:
    """The table as words, heads first; the column of bars only where there is one."""
    has_bars = any(row.bar for row in table.rows)
    heads = ["", *(cell.loop for cell in table.rows[0].cells)]
    lines = [heads + (["bar"] if has_bars else [])]
    for row in table.rows:
        words = [row.benchmark, *map(cell_text, row.cells)]
        lines.append(words + ([row.bar] if has_bars else []))
    return lines


def as_text(table: Table) -> str:
    """Aligned columns under the title."""
    lines = _lines(table)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([table.metric.title, *aligned])


def as_markdown(table: Table) -> str:
    """A pipe table under a third-level heading."""
    heads, *lines = _lines(table)
    ruled = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    ruled += ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"### {table.metric.title}", "", *ruled])


def report_text(facts: list[str], tables: list[Table], remarks: list[str]) -> str:
    """The whole report for a terminal."""
    parts = ["\n".join(facts), LEGEND, *map(as_text, tables)]
    if remarks:
        parts.append("\n".join(remarks))
    return "\n\n".join(parts) + "\n"


def report_markdown(facts: list[str], tables: list[Table], remarks: list[str]) -> str:
    """The whole report for a document."""
    parts = ["\n".join(f"- {fact}" for fact in facts), LEGEND, *map(as_markdown, tables)]
    if remarks:
        parts.append("### Remarks\n\n" + "\n".join(f"- {remark}" for remark in remarks))
    return "\n\n".join(parts) + "\n"
