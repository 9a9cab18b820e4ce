"""Polls fifteen accounts of three vendors on loopback: `poll_accounts TROUBLED`, below the data directory.

With TROUBLED = 1 one of them hangs, one has expired and one is rate-limited; with 0 none. Prints the seconds until
the other twelve had ended, and how many of them were polled with all that their vendor told of them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from kharcha_pipeline.accounts.cycle import Polled, poll_all
from kharcha_pipeline_tests.accounts.little_vendor import House, Little, some_usage
from kharcha_pipeline_tests.accounts.vendor_server import NOON_MS, Behaviour, Fault, Received, Reply

ACCOUNTS = 15
VENDORS = ("acorn", "beech", "cedar")
DAYS = 15


def main() -> None:
    """Polls, and ends the process: one account still hangs."""
    is_troubled = sys.argv[1] == "1"
    with House(Path(os.environ["KHARCHA_DATA_DIR"])) as house:
        for number in range(ACCOUNTS):
            vendor = VENDORS[number % len(VENDORS)]
            house.add(f"seat-{number:02}", some_usage(NOON_MS, DAYS), Little(vendor=vendor))
        hanging, expired, limited, *others = house.accounts
        if is_troubled:
            house.expire(expired)
            pause = Reply(429, b"", {"Retry-After": "7200"})
            house.server.faults += [
                Fault(lambda received: _by(received, hanging), Behaviour("hang"), sticky=True),
                Fault(lambda received: _by(received, limited) and received.path == "/events", pause, sticky=True),
            ]
        waiting = set(others)
        all_ended = threading.Event()

        def told(polled: Polled) -> None:
            waiting.discard(polled.account)
            if not waiting:
                all_ended.set()

        arguments = (list(house.accounts.values()), house.directory, house.clock, house.environment)
        started = time.perf_counter()
        threading.Thread(target=poll_all, args=arguments, kwargs={"told": told}, daemon=True).start()
        all_ended.wait()
        took = time.perf_counter() - started
        whole = sum(house.known(name) == house.told(name) for name in others)
    print(took, whole, flush=True)
    os._exit(0)


def _by(received: Received, account: str) -> bool:
    return received.credential == f"key-of-{account}"


if __name__ == "__main__":
    main()
