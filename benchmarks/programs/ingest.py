"""Sends rows to `kharcha serve`: whole bodies, and small ones while whole ones are sent and published beside them.

Prints the seconds that a whole body took, and the seconds from one answer to the next of small requests, the mean.
"""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline.settings import load_settings

PATH = "/api/usage/ingest"
SMALL_SENDERS = 4


def body(rows: int, label: str) -> bytes:
    """A body of rows that were not sent before."""
    row: dict[str, Any] = {
        "date": "2026-03-01", "agent": "claude-code", "provider": "anthropic", "model": "", "inputTokens": 1200,
        "outputTokens": 420, "cacheReadTokens": 3000, "cacheWriteTokens": 250, "reasoningTokens": 0,
        "totalTokens": 4870, "costUsd": "0.034513", "messages": 7, "machine": "laptop",
    }  # fmt: skip
    days = [f"2026-{month:02}-{day:02}" for month in range(1, 10) for day in range(1, 29)]
    made = [{**row, "date": days[number % len(days)], "model": f"{label}-{number}"} for number in range(rows)]
    return json.dumps({"rows": made}).encode()


class Sender:
    """One connection to the server."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def send(self, data: bytes, rows: int) -> float:
        """Sends a body; seconds until the answer."""
        began = time.perf_counter()
        self._connection.request("POST", PATH, data, self._headers)
        answer = json.loads(self._connection.getresponse().read())
        took = time.perf_counter() - began
        if answer.get("upserted") != rows or answer.get("changed") != rows:
            raise SystemExit(f"{rows} rows were sent, and the server answers {answer}.")
        return took


def main() -> None:
    """Prints what it measured: `main(rows, seconds)` from the command line."""
    rows, seconds = int(sys.argv[1]), float(sys.argv[2])
    directory = load_settings().data_directory
    access = Access(directory)
    token = access.create_token("bench")
    access.close()
    with tempfile.TemporaryDirectory() as logs:
        log = Path(logs) / "log"
        with log.open("wb") as stream:
            command = [sys.executable, "-m", "kharcha_pipeline", "serve", "--port", "0"]
            server = subprocess.Popen(command, stdout=stream, stderr=stream)
        try:
            port = _port(server, log)
            whole = Sender(port, token).send(body(rows, "whole"), rows)
            small = _small_beside_whole(port, token, rows, seconds)
        finally:
            server.terminate()
            server.wait()
    print(whole, small)


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    while server.poll() is None:
        said = log.read_text()
        found = re.search(r"Listening on http://127\.0\.0\.1:(\d+)", said)
        if found and "startup complete" in said:
            return int(found[1])
        time.sleep(0.02)
    raise SystemExit(f"The server did not start: {log.read_text()}")


def _small_beside_whole(port: int, token: str, rows: int, seconds: float) -> float:
    """Seconds from one answer to the next of small requests of several senders, beside one of whole bodies."""
    whole = [body(rows, f"backfill-{number}") for number in range(int(seconds) * 2)]
    small = [[body(1, f"small-{sender}-{number}") for number in range(5_000)] for sender in range(SMALL_SENDERS)]
    ended = threading.Event()
    failures: list[BaseException] = []
    answered: list[int] = []

    def send(bodies: list[bytes], size: int) -> None:
        sender = Sender(port, token)
        try:
            for data in bodies:
                if ended.is_set():
                    return
                sender.send(data, size)
                answered.append(size)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=send, args=(whole, rows))]
    threads += [threading.Thread(target=send, args=(bodies, 1)) for bodies in small]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    took = time.perf_counter() - began
    number = answered.count(1)
    ended.set()
    for thread in threads:
        thread.join()
    if failures or not number or rows not in answered:
        raise SystemExit(f"{number} small and {answered.count(rows)} whole bodies were answered: {failures}")
    return took / number


if __name__ == "__main__":
    main()
