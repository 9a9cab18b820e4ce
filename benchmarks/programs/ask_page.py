"""Asks a server of the usage page for pages with all days up to one, and prints how long each first byte took.

    python -m benchmarks.programs.ask_page LAST_DAY ROUNDS

Prints JSON: seconds by what was asked (`cached`, `not cached`, `not cached, after a publish`), and the number of
events that the page counts.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import socket
import sys
import time
from datetime import date, timedelta
from pathlib import Path

from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.warehouse.warehouse import Warehouse


def serve(published: Path, listening: socket.socket) -> None:
    """Serves the page until the process is ended."""
    import uvicorn
    from starlette.applications import Starlette

    from kharcha_pipeline.page.routes import page_routes

    config = uvicorn.Config(Starlette(routes=page_routes(published)), log_level="warning", lifespan="off")
    uvicorn.Server(config).run([listening])


class Client:
    """One connection that is kept, as a browser would."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def first_byte(self, path: str) -> float:
        """Seconds until the answer begins."""
        started = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        took = time.perf_counter() - started
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path} was answered with {answer.status}: {body[:300]!r}")
        return took

    def events(self, path: str) -> int:
        """How many events a selection has."""
        self._connection.request("GET", path)
        return int(json.loads(self._connection.getresponse().read())["totals"]["events"])


def main() -> None:
    """Prints the times."""
    last, rounds = date.fromisoformat(sys.argv[1]), int(sys.argv[2])
    published = Warehouse(load_settings().data_directory).published_path
    listening = socket.create_server(("127.0.0.1", 0))
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(published, listening))
    server.start()
    try:
        client = Client(listening.getsockname()[1])
        listening.close()
        client.first_byte("/")
        times: dict[str, list[float]] = {"cached": [], "not cached": [], "not cached, after a publish": []}
        for number in range(rounds):
            asked = f"/?to={last + timedelta(days=number)}"  # another question about the same days
            times["not cached"].append(client.first_byte(asked))
            times["cached"].append(client.first_byte(asked))
        for _ in range(rounds):
            os.utime(published)  # what tells one copy from another
            times["not cached, after a publish"].append(client.first_byte(f"/?to={last}"))
        print(json.dumps({**times, "events": client.events(f"/api/usage?to={last}")}))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
