"""Publishes what came in: a `kharcha sync` in a process of its own, one at a time, whenever there is something new.

The warehouse is never opened in the server's process: it answers requests while another process reads and builds.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping

logger = logging.getLogger("kharcha.sync")

FIRST_PAUSE = 2.0
LONGEST_PAUSE = 300.0
"""Seconds between attempts after failures; each pause is twice the one before."""

TIME_TO_END = 10.0
"""Seconds that a sync has to end when the server ends. It may be killed at any moment; the next one goes on."""

_SECRETS = ("KHARCHA_PUSH_TOKEN",)


class Publisher:
    """Starts a sync whenever it was asked to, and one more for what came meanwhile."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        self._environment = {name: value for name, value in given.items() if name not in _SECRETS}
        self._wanted = asyncio.Event()
        self._running = False
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a sync is under way or wanted."""
        return self._running or self._wanted.is_set()

    def ask(self) -> None:
        """Asks for a sync that begins from now on."""
        self._wanted.set()

    def start(self) -> None:
        """Begins to listen."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Ends the sync under way, if there is one. What it has not published, the next one does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), TIME_TO_END)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _serve(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._running = True
            try:
                done = await self._sync()
            except OSError:
                logger.exception("A sync could not be started.")
                done = False
            finally:
                self._running = False
            if done:
                pause = FIRST_PAUSE
                continue
            logger.warning(
                "What came in is safe, and is published later: the next attempt is in %.0f seconds.", pause
            )
            self._wanted.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _sync(self) -> bool:
        """Runs one sync to its end; tells whether it succeeded."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kharcha_pipeline",
            "sync",
            "--quiet",
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the server, which ends this process itself
        )
        _, said = await self._process.communicate()
        for line in said.decode(errors="replace").splitlines()[-20:]:
            logger.warning("%s", line)
        if self._process.returncode:
            logger.error("The sync ended with exit code %d.", self._process.returncode)
        return self._process.returncode == 0
