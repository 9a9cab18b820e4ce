"""`make torture` itself: it reports what it did, fails when something failed, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kharcha_pipeline_tests.torture.findings import CHECKOUT


def torture(directory: Path, *arguments: str, path: str = "") -> subprocess.Popen[str]:
    environment = os.environ | {"TMPDIR": str(directory), "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.Popen(
        [sys.executable, "-m", "kharcha_pipeline_tests.torture", *arguments],
        cwd=CHECKOUT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_in(directory: Path) -> Iterator[str]:
    """Command lines of living processes that name a directory."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in command:
            yield command


def test_it_reports_what_it_did_in_the_form_of_the_page(tmp_path: Path) -> None:
    process = torture(tmp_path, "--part", "rapid-kills", "--minutes", "0.02", "--seed", "1")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "seed 1, " in output
    (row,) = [line for line in output.splitlines() if line.startswith("| SIGKILL of a writer")]
    assert row.endswith("| 0 |")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_told_with_what_it_takes_to_see_it_again(tmp_path: Path) -> None:
    strace = tmp_path / "bin" / "strace"
    strace.parent.mkdir()
    strace.write_text("#!/bin/sh\nexit 3\n")
    strace.chmod(0o700)
    process = torture(
        tmp_path, "--part", "failing-calls", "--minutes", "0.05", "--seed", "7", path=str(strace.parent)
    )
    output, errors = process.communicate()
    assert process.returncode == 1, errors
    assert "AssertionError" in errors
    assert "kharcha_pipeline_tests.torture --part failing-calls --seed 7" in errors
    assert "| failing-calls | failed | – | 1 |" in output
    log = tmp_path / "kharcha-torture-failing-calls-7.log"
    assert "AssertionError" in log.read_text()
    assert sorted(tmp_path.iterdir()) == [strace.parent, log]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_goes_on_when_it_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    process = torture(tmp_path, "--part", "agents-at-work", "--minutes", "1")
    deadline = time.monotonic() + 60
    while not any("torture.agents" in command for command in processes_in(tmp_path)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate()
    while list(processes_in(tmp_path)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if number is signal.SIGTERM:
        assert process.returncode == 128 + number
        assert list(tmp_path.iterdir()) == []
