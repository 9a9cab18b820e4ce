"""`make torture`: everything that may go wrong, for as long as it is told, and a report of how often it did.

    python -m kharcha_pipeline_tests.torture --minutes 15
    python -m kharcha_pipeline_tests.torture --minutes 2 --part kills --seed 7

Two parts run at a time, each as a process of its own. The exit code is 1 when anything failed; then the seed and the
command to see it again are printed, and what the part said is kept. Everything is done in one temporary directory,
which is removed in the end, also when the run is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from kharcha_pipeline_tests.torture.findings import Finding, table, write_figures
from kharcha_pipeline_tests.torture.parts import DISTURBANCES, PARTS, VARIETY, Part

MOST_DISK = 6 * 10**9
"""Bytes that all parts together may have on the disk at any moment."""
SECONDS_BETWEEN_LOOKS = 10.0
GRACE = 300.0
"""Seconds that a part may take beyond its time, for what it has begun and for the comparison at its end."""
LINES_OF_A_FAILURE = 60
THOROUGHFARE = 0o711
"""Of the directories: some tests give up their rights below them, and must still get there."""


class Running(NamedTuple):
    """A part at work."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    findings: Path
    latest_end: float


class Lane:
    """Parts that run one after the other, each for its share of the time that is left."""

    def __init__(self, parts: Mapping[str, Part], directory: Path, seed: int, end: float) -> None:
        self.waiting = list(parts.items())
        self.directory, self.seed, self.end = directory, seed, end
        self.running: Running | None = None
        self.findings: list[Finding] = []

    def goes_on(self) -> bool:
        """Starts the next part when the last one has ended; tells whether there is still something to wait for."""
        if self.running is not None:
            if self.running.process.poll() is None and time.monotonic() < self.running.latest_end:
                return True
            self._finish(self.running)
        if self.waiting:
            self._start()
        return self.running is not None

    def _start(self) -> None:
        weights = sum(part.weight for _, part in self.waiting)
        name, part = self.waiting.pop(0)
        seconds = max(1.0, (self.end - time.monotonic()) * part.weight / weights)
        place = self.directory / name
        place.mkdir()
        place.chmod(THOROUGHFARE)
        log, findings = self.directory / f"{name}.log", self.directory / f"{name}.json"
        inside = ["--inside", str(place), "--part", name, "--seed", str(self.seed), "--minutes", str(seconds / 60)]
        with log.open("wb") as output, findings.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", __package__, *inside, "--findings", str(said.fileno())],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(place),
                pass_fds=[said.fileno()],
                start_new_session=True,
            )
        print(f"{name}: {seconds:.0f} s …", file=sys.stderr, flush=True)
        self.running = Running(name, process, log, findings, time.monotonic() + seconds + GRACE)

    def _finish(self, ended: Running) -> None:
        """Takes down what a part found."""
        self.running = None
        did_end = ended.process.poll() is not None
        end(ended.process)
        found = [Finding(*said) for said in map(json.loads, ended.findings.read_text().splitlines())]
        if ended.process.returncode or not did_end:
            found.append(Finding(ended.name, "failed" if did_end else "did not end", failures=1))
        self.findings += found
        if any(one.failures for one in found):
            kept = Path(tempfile.gettempdir()) / f"kharcha-torture-{ended.name}-{self.seed}.log"
            shutil.copyfile(ended.log, kept)
            said = ended.log.read_text(errors="replace").splitlines()[-LINES_OF_A_FAILURE:]
            again = f"python -m {__package__} --part {ended.name} --seed {self.seed}"
            verdict = f"{ended.name} FAILED. All it said: {kept}. To see it again: {again}"
            print(*said, verdict, sep="\n", file=sys.stderr, flush=True)
        shutil.rmtree(self.directory / ended.name, ignore_errors=True)


class Disk:
    """Sees to it that the run takes no more of the disk than it may."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.next = directory, 0.0
        if shutil.disk_usage(directory).free < MOST_DISK:
            sys.exit(f"{directory.parent} has less than {MOST_DISK / 1e9:.0f} GB left. Set TMPDIR to another place.")

    def check(self) -> None:
        """Ends the run when it takes too much; looks every few seconds."""
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + SECONDS_BETWEEN_LOOKS
        said = subprocess.run(["du", "-skx", self.directory], capture_output=True, text=True, check=False).stdout
        if said and int(said.split()[0]) * 1024 > MOST_DISK:
            sys.exit(f"The run took more than {MOST_DISK / 1e9:.0f} GB of the disk, which it never should.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for; 1 when anything failed."""
    chosen = _parsed(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    if chosen.inside is not None:
        with os.fdopen(chosen.findings, "w") as findings:
            _work(PARTS[chosen.part[0]], chosen.inside, chosen.seed, chosen.minutes * 60, findings)
        return 0
    seed = random.randrange(1_000_000) if chosen.seed is None else chosen.seed
    print(f"seed {seed}, {chosen.minutes:g} minutes", file=sys.stderr, flush=True)
    chosen_parts = chosen.part or list(PARTS)
    end_at = time.monotonic() + chosen.minutes * 60
    with _working_directory() as directory:
        lanes = [
            Lane({name: part for name, part in parts.items() if name in chosen_parts}, directory, seed, end_at)
            for parts in (DISTURBANCES, VARIETY)
        ]
        disk = Disk(directory)
        try:
            while sum(lane.goes_on() for lane in lanes):
                time.sleep(0.5)
                disk.check()
        finally:
            for lane in lanes:
                if lane.running is not None:
                    end(lane.running.process)
    findings = [finding for lane in lanes for finding in lane.findings]
    text = table(findings, chosen.minutes, seed)
    print(text)
    if chosen.write:
        write_figures(text)
    return int(any(finding.failures for finding in findings))


def _leave(number: int, frame: object) -> None:
    """Ends this process in good order, and lets nothing interrupt that."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description="Everything that may go wrong, for as long as it is told; see docs/reliability.md.",
    )
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, help="whose chances to take; by default another one each time")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this one; may be repeated")
    parser.add_argument("--write", action="store_true", help="put the figures into docs/reliability.md")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--findings", type=int, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _work(part: Part, directory: Path, seed: int, seconds: float, findings: IO[str]) -> None:
    """Does a part, in the process made for it. That ends with the one that made it, however that ends."""

    def follow() -> None:
        while os.read(0, 1):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    for finding in part.work(directory, seed, seconds):
        print(json.dumps(finding), file=findings, flush=True)


def _environment(directory: Path) -> dict[str, str]:
    """Ours without what would lead to somebody's own data; temporary files go where they are removed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KHARCHA_", "DAGSTER_"))}
    return kept | {"TMPDIR": str(directory)}


@contextlib.contextmanager
def _working_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kharcha-torture-", ignore_cleanup_errors=True) as name:
        try:
            Path(name).chmod(THOROUGHFARE)
            yield Path(name)
        finally:
            _unmount_below(name)


def _unmount_below(directory: str) -> None:
    """Takes away the file systems that a part could not take away itself."""
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/self/mounts").read_text().splitlines():
            if (place := line.split()[1]).startswith(directory):
                subprocess.run(["umount", "--lazy", place], check=False)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part with all that it started: politely first, so that it can clean up."""
    for number, seconds in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


if __name__ == "__main__":
    sys.exit(main())
