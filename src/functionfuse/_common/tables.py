"""Tables as text and HTML."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """The table as aligned lines, never wrapped, so that names can be searched."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in self.header:
            table.add_column(title, no_wrap=True)
        for row in self.rows:
            table.add_row(*[Text(cell) for cell in row])
        console = Console(width=10_000, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(table)
        lines = [line.rstrip() for line in capture.get().splitlines()]
        return textwrap.dedent("\n".join(lines)).strip("\n")

    def html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{html.escape(title)}</th>" for title in self.header)
        rows = [
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        ]
        return "\n".join(["<table>", f"<tr>{head}</tr>", *rows, "</table>"])
