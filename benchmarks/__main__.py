"""`python -m benchmarks`: runs the cases and writes `benchmarks/REPORT.md`."""

from __future__ import annotations

import argparse
import compileall
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.cases import CASES, QUICK, Bench, Scale
from benchmarks.corpora import CHECKOUT, Corpora, WrongTotalsError
from benchmarks.measuring import ProcessFailedError
from benchmarks.peer import PeerError, find_peer
from benchmarks.report import Outcome, report

REPORT = CHECKOUT / "benchmarks" / "REPORT.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; 1 when a case failed. A limit that is missed fails nothing: machines differ."""
    chosen = _parsed(arguments)
    directory: Path = chosen.corpus_directory
    directory.mkdir(parents=True, exist_ok=True)
    script = os.environ.get("KHARCHA_BENCHMARK_CORPUS")
    corpora = Corpora(directory, Path(script).absolute() if script else None)
    peer = find_peer(directory)
    compileall.compile_dir(CHECKOUT / "kharcha_pipeline", quiet=1)  # as an installation does
    scale = QUICK if chosen.quick else replace(Scale(), whole=chosen.full)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended from outside."))  # gigabytes are removed on the way out
    outcomes: list[Outcome] = []
    failed = False
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="work-", dir=directory) as work:
        for name in chosen.case or CASES:
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                outcomes.append(CASES[name](Bench(scale, corpora, peer, Path(work))))
            except (WrongTotalsError, PeerError, ProcessFailedError) as error:
                failed = True
                print(f"{name} FAILED: {error}", file=sys.stderr)
    text = report(outcomes, corpora, peer, time.monotonic() - started)
    print(text)
    if not (failed or chosen.quick or chosen.case):
        REPORT.write_text(text, encoding="utf-8")
    return int(failed)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure against limits, and against ccusage where it is installed. See docs/performance.md.",
    )
    parser.add_argument("--quick", action="store_true", help="tiny corpora: shows that all works, measures nothing")
    parser.add_argument("--full", action="store_true", help="read 4 GB as well")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one; may be repeated")
    parser.add_argument(
        "--corpus-directory",
        type=Path,
        default=Path(tempfile.gettempdir()) / f"kharcha-benchmarks-{os.getuid()}",
        help="where corpora are kept for the next run (default: %(default)s)",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
