"""The one small interface an agent's module implements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from kharcha_pipeline.records import LogFile, Reading, SettledRecord

ReadingMode = Literal["lines", "document", "database"]
"""How a file changes: `lines` grow at the end; a `document` is replaced as a whole; a `database` changes inside
and keeps the source's state for as long as it is the same file."""


class Place(NamedTuple):
    """One place where an agent keeps logs: a directory that is swept to the bottom, or a single file.

    `endings` are the file-name endings that count (`("wire.jsonl",)`), for a single file they are ignored.
    `watched` endings only mark the file beside them as changed (a database's `-wal`).
    """

    path: str
    endings: tuple[str, ...]
    mode: ReadingMode
    account: str = ""
    watched: tuple[str, ...] = ()


class Reasons(NamedTuple):
    """Why events of a source change that were known before, as `event_changes` states it.

    Attributes:
        changed: another value stands now.
        withdrawn: nothing stands any more.
    """

    changed: str = "a better copy was found"
    withdrawn: str = "found to be a copy of another response"


class Source(Protocol):
    """An agent that leaves logs on disk. Adding an agent is one module with one such object."""

    @property
    def name(self) -> str:
        """The name stored in every table, e.g. `claude-code`."""
        ...

    @property
    def title(self) -> str:
        """The name people know, e.g. `Claude Code`."""
        ...

    @property
    def variables(self) -> Sequence[str]:
        """Environment variables that move the logs; a change of one ends the memory of an unchanged run."""
        ...

    @property
    def locations(self) -> Sequence[str]:
        """Where the logs are by default and which variable overrides it, one phrase each, for the documentation."""
        ...

    @property
    def record_type(self) -> type[msgspec.Struct]:
        """The struct stored in `UsageRecord.said`.

        Stored JSON is decoded with it for as long as the warehouse lives, so fields may be added with defaults but
        never renamed or removed.
        """
        ...

    @property
    def reasons(self) -> Reasons:
        """Why its events change that were known before."""
        ...

    def places(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[Place]:
        """The places to look in, existing or not, most important first.

        Args:
            environment: `HOME` and the agent's own variables.
            roots: extra `(path, account label)` pairs from the settings, each in the form that the agent's own
                override variable takes; a root that is also found by default only lends it its label.
        """
        ...

    def landmarks(self, environment: Mapping[str, str], roots: Sequence[tuple[str, str]] = ()) -> list[str]:
        """Directories whose entries decide which places there are, apart from the places themselves. Usually none."""
        ...

    def read(self, file: LogFile) -> Reading:
        """Usage records and rejects of one file, from `file.offset` on.

        Raises:
            OSError: when the file cannot be read; it is rejected as a whole and tried again next time.
        """
        ...

    def related(self, said: Sequence[Any]) -> Iterable[str]:
        """Families whose records this family's settlement also looks at (a fork's parent). Usually none."""
        ...

    def settle(
        self, family: str, said: Sequence[Any], related: Mapping[str, Sequence[Any]]
    ) -> Iterable[SettledRecord]:
        """The billed responses of one family: a pure function of the *sets* of records given.

        The order of `said` and of each sequence in `related` must not matter, nor may repeated records. Two
        families of one source never yield the same `SettledRecord.identity`.
        """
        ...
