"""Where the `kharcha` program starts. A sync with nothing to do ends here, before any dependency is imported."""

from __future__ import annotations

import os
import sys

from kharcha_pipeline.unchanged import unchanged_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BARE = frozenset({"--quiet", "-q", "--json"})
"""Options of `sync` that only change what is printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
        arguments: the command's arguments; by default those of this process.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["sync"] and _BARE.issuperset(given[1:]):
        files = unchanged_files(os.environ)
        if files or (
            files is not None and len(given) > 1
        ):  # without any file it should be told where they were sought
            from kharcha_pipeline.cli.nothing_changed import told

            sys.stdout.write(told(files, as_json="--json" in given, quiet=len(given) > 1))
            return 0
    from kharcha_pipeline.cli.app import run

    return run(given)
