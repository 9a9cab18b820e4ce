"""Runs the application on uvicorn until somebody ends it."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from kharcha_pipeline.ingest.errors import IngestError
from kharcha_pipeline.server.application import build_application
from kharcha_pipeline.server.authority import is_loopback
from kharcha_pipeline.settings import Settings

SWITCH_SECONDS = 0.0005
"""After which a thread that computes lets others go on: a small request changes threads several times, and would wait
for the usual five milliseconds each time while a large body is looked through."""

TIME_TO_END = 15
"""Seconds that requests under way have when the server is told to end."""

logger = logging.getLogger("kharcha")


def serve(settings: Settings, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; requests under way are answered first.

    Args:
        settings: data directory, and who may look at what.
        host: address or name to listen on.
        port: to listen on; 0 for any that is free.

    Raises:
        IngestError: when it cannot listen there.
        WarehouseError, BusyError: when the data directory cannot be used.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with listening(host, port) as listener:
        address, port = listener.getsockname()[:2]
        is_local = is_loopback(address)
        application = build_application(settings, is_local=is_local)
        shown = f"[{address}]" if ":" in address else address
        logger.info("Listening on http://%s:%d, data in %s", shown, port, settings.data_directory)
        if not is_local:
            logger.warning(
                "Other machines can reach this address, and http hides nothing: let a proxy with https listen there."
            )
        signal.signal(signal.SIGTERM, _end)  # uvicorn raises the signal again when all is closed
        try:
            server_of(application).run(sockets=[listener])
        except KeyboardInterrupt:
            logger.info("Ended.")


def server_of(application: Starlette) -> uvicorn.Server:
    """A server for the application, which writes no query into any log."""
    logging.getLogger("uvicorn.access").disabled = True  # ours leaves queries out
    return uvicorn.Server(
        uvicorn.Config(
            application,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=TIME_TO_END,
            timeout_keep_alive=15,
            ws="none",
        )
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        IngestError: when there is none to be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1_024)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise IngestError(
            f"The server cannot listen on {host}, port {port} ({error.strerror or error}). "
            "Choose another one with --host and --port, or end what listens there."
        ) from error
    return listener


def _end(number: int, frame: FrameType | None) -> None:
    logger.info("Ended.")
    raise SystemExit(0)
