"""Tables for terminals of any width: numbers are never cut, columns of less importance give way.

Written without a library because a report of thousands of sessions should take milliseconds, and because columns
that give way in a known order read better than columns that wrap.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, TextIO

GAP = 2
"""Columns between two cells."""
PIPED_WIDTH = 120
"""Width where there is no terminal to fit into."""
ALWAYS = 100
"""Importance of a column that never gives way."""

Cell = str | tuple[str, ...]
"""A text, or a list of which as many are shown as fit."""

_BOLD, _DIM, _RED, _YELLOW, _GREEN, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"


class Column(NamedTuple):
    """How one column behaves.

    Attributes:
        title: its heading.
        right: whether it is aligned to the right, as numbers are.
        importance: columns of low importance give way first, those of equal importance together.
        narrowest: down to which width its texts may be cut; `None` when they must not be.
        cut: which end of a text is cut.
    """

    title: str
    right: bool = False
    importance: int = ALWAYS
    narrowest: int | None = None
    cut: Literal["end", "start"] = "end"


class Table(NamedTuple):
    """Rows under columns, with an optional last row of totals."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    total: Sequence[Cell] | None = None

    def lines(self, width: int | None, colour: bool = False) -> list[str]:
        """The table as lines of text, as wide as `width` where that can be done; `None` cuts nothing."""
        shown, widths = self._layout(width)
        rule = "─" * _line_width(widths)
        lines = [
            painted(self._line([column.title for column in self.columns], shown, widths), "bold", colour),
            painted(rule, "dim", colour),
            *(self._line(row, shown, widths) for row in self.rows),
        ]
        if self.total is not None:
            lines += [painted(rule, "dim", colour), painted(self._line(self.total, shown, widths), "bold", colour)]
        return lines

    def _layout(self, width: int | None) -> tuple[list[int], list[int]]:
        """Which columns are shown, and how wide."""
        everything = [*self.rows, *([self.total] if self.total is not None else [])]
        natural = [
            max(display_width(column.title), *(display_width(_whole(row[at])) for row in everything), 0)
            for at, column in enumerate(self.columns)
        ]
        least = [
            wide if column.narrowest is None else min(wide, max(column.narrowest, display_width(column.title)))
            for column, wide in zip(self.columns, natural, strict=True)
        ]
        if width is None:
            return list(range(len(self.columns))), natural

        importances = sorted({column.importance for column in self.columns}, reverse=True)
        kept: set[int] = set()
        for importance in importances:  # columns of equal importance come and go together
            more = kept.union(at for at, column in enumerate(self.columns) if column.importance == importance)
            if importance == ALWAYS or _line_width([least[at] for at in more]) <= width:
                kept = more
        shown = sorted(kept)
        widths = {at: least[at] for at in shown}
        while _line_width(widths.values()) < width and (growing := [at for at in shown if widths[at] < natural[at]]):
            widths[min(growing, key=lambda at: widths[at])] += 1
        return shown, [widths[at] for at in shown]

    def _line(self, row: Sequence[Cell], shown: Sequence[int], widths: Sequence[int]) -> str:
        cells = []
        for at, width in zip(shown, widths, strict=True):
            column = self.columns[at]
            text = _fitted(row[at], width, column.cut)
            padding = " " * (width - display_width(text))
            cells.append(padding + text if column.right else text + padding)
        return (" " * GAP).join(cells).rstrip()


def _line_width(widths: Collection[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def display_width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def printable(text: str) -> str:
    """A text without characters that would steer the terminal: names in logs are not to be trusted."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _whole(cell: Cell) -> str:
    return printable(cell if isinstance(cell, str) else ", ".join(cell))


def _fitted(cell: Cell, width: int, cut: Literal["end", "start"]) -> str:
    text = _whole(cell)
    if display_width(text) <= width:
        return text
    if not isinstance(cell, str) and len(cell) > 1:
        for number in range(len(cell) - 1, 0, -1):
            some = printable(f"{', '.join(cell[:number])} +{len(cell) - number}")
            if display_width(some) <= width:
                return some
        rest = f" +{len(cell) - 1}"
        return _cut(printable(cell[0]), width - len(rest), cut) + rest
    return _cut(text, width, cut)


def _cut(text: str, width: int, cut: Literal["end", "start"]) -> str:
    while text and display_width(text) > width - 1:
        text = text[1:] if cut == "start" else text[:-1]
    return f"…{text}" if cut == "start" else f"{text}…"


def painted(text: str, style: Literal["bold", "dim", "red", "yellow", "green"], colour: bool) -> str:
    """A text in a style, or as it is where colours are not wanted."""
    if not colour:
        return text
    code = {"bold": _BOLD, "dim": _DIM, "red": _RED, "yellow": _YELLOW, "green": _GREEN}[style]
    return f"{code}{text}{_RESET}"


def wants_colour(stream: TextIO = sys.stdout) -> bool:
    """Whether a stream is a terminal whose user has not asked for plain text (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns to fit into: `COLUMNS`, else the terminal's, else a width that suits files and pagers."""
    configured = os.environ.get("COLUMNS", "")
    if configured.isdecimal() and int(configured) > 0:
        return int(configured)
    if sys.stdout.isatty():
        return os.get_terminal_size(sys.stdout.fileno()).columns or PIPED_WIDTH
    return PIPED_WIDTH
