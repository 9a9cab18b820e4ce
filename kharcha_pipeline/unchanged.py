"""Tells, with the standard library alone, that a sync has nothing to do.

A sync that leaves nothing waiting remembers what it saw: every log file's path, inode, size and time, the settings
in force, the price data, and the state of the two databases. As long as all of that is the
same, the next sync returns before any dependency is imported. The memory is disposable: without it, or when
anything differs, the sync simply looks properly.

The memory is text in three parts: what to look at, what was seen of the circumstances, and the listing of the log
files. The last two are made anew and compared as they are, so that nothing in them is ever parsed.
"""

from __future__ import annotations

import os
import sys
from time import strftime

from kharcha_pipeline import __version__, locations
from kharcha_pipeline.sources.walk import listing, walk_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Plan = Sequence[tuple[str, tuple[str, ...]]]
    """Places to walk: tops and endings."""

SCHEMA = 3
VARIABLES = (
    "HOME",
    "KHARCHA_CONFIG",
    "KHARCHA_DATA_DIR",
    "KHARCHA_MACHINE",
    "KHARCHA_PRICES",
    "KHARCHA_TIMEZONE",
    "XDG_CONFIG_HOME",
)

_END = b"\0\0"
"""Ends a part of the memory: neither names nor paths are empty or have a NUL in them."""


class Watched:
    """What decides, apart from the log files, what a sync would do.

    Attributes:
        variables: names of environment variables, besides those that always count.
        paths: files and directories, besides those that always count.
    """

    def __init__(self, variables: Iterable[str], paths: Iterable[str]) -> None:
        self.variables = sorted({*VARIABLES, *variables})
        self.paths = list(paths)


def memory_path(data_directory: str) -> str:
    """Where the memory of the last complete sync is kept."""
    return os.path.join(data_directory, "unchanged")


def price_data() -> str:
    """The file by which the installed price catalogue is recognized."""
    for top in sys.path:
        path = os.path.join(top, "genai_prices", "__init__.py")
        if os.path.exists(path):
            return path
    return ""


def inputs(environment: Mapping[str, str], watched: Watched) -> str:
    """What a sync is given besides log files; to be taken before it looks at any of it."""
    paths = [locations.config_file(environment), price_data(), *watched.paths]
    variables = [(name, environment.get(name)) for name in watched.variables]
    return repr((SCHEMA, __version__, strftime("%Y-%m-%d"), variables, [_signature(path) for path in paths]))


def outputs(environment: Mapping[str, str]) -> str:
    """What a sync leaves; to be taken before it is certain that nothing is left to do."""
    directory = locations.data_directory(environment)
    names = ("warehouse.duckdb", "warehouse.duckdb.wal", "kharcha.duckdb")
    return repr([_signature(os.path.join(directory, name)) for name in names])


def _signature(path: str) -> tuple[str, int, int, int] | None:
    """Inode, size and modification time of a file or directory; `None` when it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (path, status.st_ino, status.st_size, status.st_mtime_ns)


def remember(
    environment: Mapping[str, str], watched: Watched, seen: tuple[str, str], plan: Plan, swept: bytes, files: int
) -> None:
    """Stores what a complete sync saw.

    Args:
        environment: the environment of the sync.
        watched: what decided about it.
        seen: its inputs and outputs.
        plan: the places that were walked.
        swept: listing of the walk the sync began with.
        files: the number of log files in it.
    """
    path = memory_path(locations.data_directory(environment))
    fresh = f"{path}.{os.getpid()}.new"
    with open(fresh, "wb", opener=_private) as stream:
        stream.write(_END.join((_written(watched, plan, files), "".join(seen).encode(), swept)))
    os.replace(fresh, path)


def unchanged_files(environment: Mapping[str, str]) -> int | None:
    """The number of log files when nothing at all changed since the last complete sync, else `None`."""
    try:
        with open(memory_path(locations.data_directory(environment)), "rb") as stream:
            what, seen, swept = stream.read().split(_END, 2)
        watched, plan, files = _read(what)
        if seen != (inputs(environment, watched) + outputs(environment)).encode():
            return None
        return files if _consists_of(swept, listing(walk_all(plan))) else None
    except (OSError, ValueError, LookupError):
        return None


def _consists_of(swept: bytes, parts: Iterable[bytes]) -> bool:
    """Whether a listing consists of these parts; no more of them are made than it takes to know that it does not.

    A sync with something to do has to walk again, properly, so it should lose little here: the agents that write few
    large files come first, and a change of theirs is soon met.
    """
    position = 0
    for part in parts:
        if not swept.startswith(part, position):
            return False
        position += len(part)
    return position == len(swept)


def _written(watched: Watched, plan: Plan, files: int) -> bytes:
    """What to look at, as fields whose first letter says what they are."""
    fields = [f"n{files}", *(f"v{name}" for name in watched.variables), *(f"p{path}" for path in watched.paths)]
    for top, endings in plan:
        fields += [f"t{top}", *(f"e{ending}" for ending in endings)]
    return "\0".join(fields).encode("utf-8", "surrogateescape")


def _read(text: bytes) -> tuple[Watched, Plan, int]:
    """What `_written` wrote.

    Raises:
        ValueError, LookupError: when it is something else.
    """
    fields: dict[str, list[str]] = {"n": [], "v": [], "p": []}
    plan: list[tuple[str, tuple[str, ...]]] = []
    for field in text.decode("utf-8", "surrogateescape").split("\0"):
        kind, value = field[0], field[1:]
        if kind == "t":
            plan.append((value, ()))
        elif kind == "e":
            top, endings = plan[-1]
            plan[-1] = (top, (*endings, value))
        else:
            fields[kind].append(value)
    (files,) = fields["n"]
    return Watched(fields["v"], fields["p"]), plan, int(files)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
