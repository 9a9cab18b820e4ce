"""The peer: ccusage, the fastest native program that reads the same logs. It may be absent."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.corpora import Corpus, environment
from benchmarks.measuring import Usage, run

VERSION = "20.0.24"
"""The version the limits are set against."""

BINARY = "node_modules/@ccusage/ccusage-*/bin/ccusage"
"""Where npm puts the native program; the command beside it only starts it through Node."""

LEAST_SHARE = 0.8
"""Of the true tokens. A peer that finds fewer has not read the corpus, and its time says nothing."""


class PeerError(Exception):
    """The peer cannot be compared with."""


@dataclass(frozen=True)
class Peer:
    """The installed peer.

    Attributes:
        path: its native program.
        version: as it says.
    """

    path: Path
    version: str

    def run(self, corpus: Corpus) -> Usage:
        """Lets it report all days of a corpus."""
        return run([self.path, "daily", "--offline", "--json"], environment(HOME=corpus.home))

    def share_found(self, corpus: Corpus) -> float:
        """How many of the true tokens it finds, 1.0 being right.

        Raises:
            PeerError: when it cannot have read the whole corpus.
        """
        found = json.loads(self.run(corpus).output)["totals"]["totalTokens"]
        share = float(found / corpus.tokens)
        if share < LEAST_SHARE:
            raise PeerError(f"ccusage found {share:.2f} of the tokens, so it did less work.")
        return share


def find_peer(directory: Path) -> Peer | None:
    """The peer named by `KHARCHA_CCUSAGE`, else one that npm installed in `directory` or fetched for npx.

    Raises:
        PeerError: when the one that is named cannot be run.
    """
    named = os.environ.get("KHARCHA_CCUSAGE")
    for path in [Path(named)] if named else _installed(directory):
        try:
            # npm leaves it to the command around the native program to make it executable.
            path.chmod(path.stat().st_mode | 0o100)
            said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            if named:
                raise PeerError(f"KHARCHA_CCUSAGE names {named}, which cannot be run: {error}.") from error
            continue
        return Peer(path, said.split()[-1])
    return None


def _installed(directory: Path) -> Iterator[Path]:
    yield from sorted(directory.glob(BINARY))
    yield from sorted(Path("~/.npm/_npx").expanduser().glob(f"*/{BINARY}"))
