"""Spans of time, added up and taken away from each other."""

from __future__ import annotations

from collections.abc import Iterable

from kharcha_pipeline.accounts.connector import Window


def merged(windows: Iterable[Window]) -> list[Window]:
    """The same instants in the fewest windows, ascending; those that touch become one, empty ones go."""
    found: list[Window] = []
    for window in sorted(window for window in windows if window.from_ms < window.until_ms):
        if found and window.from_ms <= found[-1].until_ms:
            found[-1] = Window(found[-1].from_ms, max(found[-1].until_ms, window.until_ms))
        else:
            found.append(window)
    return found


def without(windows: Iterable[Window], taken: Iterable[Window]) -> list[Window]:
    """The instants of `windows` that are in none of `taken`, ascending."""
    left = merged(windows)
    for cut in merged(taken):
        left = [
            piece
            for window in left
            for piece in (
                Window(window.from_ms, min(window.until_ms, cut.from_ms)),
                Window(max(window.from_ms, cut.until_ms), window.until_ms),
            )
            if piece.from_ms < piece.until_ms
        ]
    return left
