"""Where the `kharcha` program starts. A sync with nothing to do ends here, before any dependency is imported."""

from __future__ import annotations

import os
import sys

from kharcha_pipeline.unchanged import look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from kharcha_pipeline.unchanged import Look

_BARE = frozenset({"--quiet", "-q", "--json"})
"""Options of `sync` that only change what is printed."""


def program() -> NoReturn:
    """Runs the command of this process and ends the process.

    It ends at once: all is written and nothing is open, while Python would take everything down piece by piece, for
    a tenth of the time of a report.
    """
    code = main()
    try:
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, writes out what it prints, and returns its exit code.

    Args:
        arguments: the command's arguments; by default those of this process.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - open until the process ends
    given = sys.argv[1:] if arguments is None else list(arguments)
    seen = look(os.environ) if given[:1] == ["sync"] else None
    said = _nothing_to_do(given, seen)
    if said is None:
        from kharcha_pipeline.cli.app import run

        return run(given, seen)
    try:
        sys.stdout.write(said)
        sys.stdout.flush()
    except OSError as error:
        from kharcha_pipeline.cli.app import failed

        return failed(error)
    return 0


def _nothing_to_do(given: Sequence[str], seen: Look | None) -> str | None:
    """What to print when the command is a sync with nothing to do, else `None`."""
    if seen is None or seen.changed or not _BARE.issuperset(given[1:]):
        return None
    if seen.files == 0 and len(given) == 1:  # without any file it should be told where they were sought
        return None
    from kharcha_pipeline.cli.nothing_changed import told

    return told(seen.files, as_json="--json" in given, quiet=len(given) > 1)
