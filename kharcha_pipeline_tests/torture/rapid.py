"""Kills writers of the warehouse many times a second, and keeps count of what they had committed.

    python -m kharcha_pipeline_tests.torture.rapid DIRECTORY SECONDS SEED

Every writer is a fork that opens the warehouse, checks what is in it, adds to it and says so once that is committed.
What was said to be committed must be there for ever after, and nothing may be there by half.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from kharcha_pipeline.warehouse.warehouse import Warehouse, fact, set_fact

ROWS = 400


def write(warehouse: Warehouse, committed: int, said: int) -> None:
    """Replaces some rows, counts on, and tells the number once it is committed."""
    with warehouse.write() as connection:
        number = int(fact(connection, "number") or 0)
        found = connection.execute("SELECT count(*), min(position), max(position) FROM rejects").fetchall()[0]
        assert number >= committed, f"{committed} was committed, but {number} is there"
        assert found == ((ROWS, number, number) if number else (0, None, None)), (number, found)
        connection.execute("DELETE FROM rejects")
        connection.execute(
            "INSERT INTO rejects SELECT 's', 'p', i, ?, 'r', now(), NULL FROM range(?) t(i)", [number + 1, ROWS]
        )
        set_fact(connection, "number", str(number + 1))
    os.write(said, b"%d\n" % (number + 1))


def main(directory: str, seconds: str, seed: str) -> int:
    rng = random.Random(f"rapid:{seed}")
    committed, killed, finished, longest = 0, 0, 0, 0.3
    deadline = time.monotonic() + float(seconds)
    while time.monotonic() < deadline:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            try:
                write(Warehouse(Path(directory)), committed, writing)
            except BaseException as error:
                os.write(2, f"after {killed} kills: {error!r}\n".encode())
                os._exit(1)
            os._exit(0)
        os.close(writing)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reading) as stream:
            committed = int(stream.read() or committed)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            return 1
        killed, finished = killed + os.WIFSIGNALED(status), finished + os.WIFEXITED(status)
        longest *= 0.98 if os.WIFEXITED(status) else 1.002  # about one in ten may finish, whatever the machine
    print(json.dumps({"killed": killed, "finished": finished, "committed": committed}))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
