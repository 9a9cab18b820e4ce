"""The routes of the usage page behind a real server on loopback, and what a browser would be answered."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from starlette.applications import Starlette

from kharcha_pipeline.page.routes import page_routes
from kharcha_pipeline_tests.machine import LAST_DAY

NOW = datetime(LAST_DAY.year, LAST_DAY.month, LAST_DAY.day, 18, tzinfo=UTC)


@dataclass
class Answered:
    """An answer of the server. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def data(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """A server that is up."""

    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, headers: dict[str, str] | None = None, **parameters: str) -> Answered:
        """Asks for a path; `from_` is the parameter from."""
        query = "?" + urlencode({name.rstrip("_"): value for name, value in parameters.items()}) if parameters else ""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path + query, headers=headers or {})
            answer = connection.getresponse()
            return Answered(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def usage(self, **parameters: str) -> Any:
        """What `/api/usage` says."""
        answered = self.get("/api/usage", **parameters)
        assert answered.status == 200, answered.text
        return answered.data


@contextmanager
def serving(published: Path, **settings: Any) -> Iterator[Server]:
    """A server of the page's routes, on a free port, while the body runs. Its day is that of `NOW` unless given."""
    routes = page_routes(published, **{"now": lambda: NOW, **settings})
    server = uvicorn.Server(
        uvicorn.Config(Starlette(routes=routes), log_level="warning", lifespan="off", timeout_graceful_shutdown=2)
    )
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "The server did not start."
            time.sleep(0.01)
        yield Server(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
