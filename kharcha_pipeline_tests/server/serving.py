"""A server on a real socket, in this process or in one of its own."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline.server.application import build_application
from kharcha_pipeline.server.publishing import Publisher
from kharcha_pipeline.server.serving import listening, server_of
from kharcha_pipeline.settings import load_settings

KHARCHA = Path(sys.executable).with_name("kharcha")
PASSWORD = "correct horse battery"


class Quiet(Publisher):
    """Publishes nothing; counts how often it was asked to."""

    def __init__(self) -> None:
        super().__init__({})
        self.asked = 0

    def start(self) -> None:
        """Nothing begins."""

    def ask(self) -> None:
        """Notes it."""
        self.asked += 1


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Site:
    """A server that runs."""

    port: int
    data: Path
    publisher: Quiet | None = None
    application: Starlette | None = None
    token: str = ""
    process: subprocess.Popen[bytes] | None = None
    log: Path | None = None
    cookies: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            said = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, said)
        finally:
            connection.close()

    def send(self, body: bytes | str, token: str | None = None, **headers: str) -> Answer:
        """Posts a body of rows, with the right token unless another one is given."""
        shown = {"Authorization": f"Bearer {self.token if token is None else token}"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", "/api/usage/ingest", body, {"Content-Type": "application/json", **shown, **given})


def environment_of(directory: Path, **variables: str) -> dict[str, str]:
    """The variables of an installation below a directory."""
    return {
        "HOME": str(directory),
        "KHARCHA_DATA_DIR": str(directory / "data"),
        "KHARCHA_TIMEZONE": "UTC",
        "PATH": os.environ["PATH"],
        **variables,
    }


@contextmanager
def running(directory: Path, *, is_local: bool = True, **variables: str) -> Iterator[Site]:
    """A server in a thread of this process, which publishes nothing."""
    settings = load_settings(environment_of(directory, **variables))
    publisher = Quiet()
    application = build_application(settings, is_local=is_local, publisher=publisher)
    access = Access(settings.data_directory)
    token = access.create_token("laptop", machine="desk")
    access.add_user("asha", "admin", PASSWORD)
    access.add_user("ravi", "reader", PASSWORD)
    access.close()
    with listening("127.0.0.1", 0) as listener:
        server = server_of(application)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield Site(listener.getsockname()[1], settings.data_directory, publisher, application, token)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def process(directory: Path, **variables: str) -> Iterator[Site]:
    """`kharcha serve` as a process of its own; ended with SIGTERM unless it has ended."""
    environment = environment_of(directory, **variables)
    log = directory / "serve.log"
    with log.open("ab") as stream:
        start = log.stat().st_size
        server = subprocess.Popen(
            [str(KHARCHA), "serve", "--port", "0"], env=environment, stdout=stream, stderr=stream
        )
    try:
        port = None
        while port is None:
            assert server.poll() is None, log.read_text()
            time.sleep(0.02)
            said = log.read_text()[start:]
            if "startup complete" in said:
                found = re.search(r"Listening on http://127\.0\.0\.1:(\d+)", said)
                assert found
                port = int(found[1])
        yield Site(port, directory / "data", process=server, log=log)
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)
