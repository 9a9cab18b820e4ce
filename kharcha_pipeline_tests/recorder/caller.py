"""A process that records calls and says of each, after it returned, that it did. It is there to be killed.

`python -m kharcha_pipeline_tests.recorder.caller NAME NUMBER` records NUMBER calls (0 for no end) with the request
ids `NAME-0`, `NAME-1`, … and writes each of them to its output once it is recorded.
"""

from __future__ import annotations

import os
import sys
from itertools import count

from kharcha_pipeline.recorder import Recorder, UsageCounts


def main() -> None:
    """Records calls."""
    name, number = sys.argv[1], int(sys.argv[2])
    recorder = Recorder()
    for call in range(number) if number else count():
        request_id = f"{name}-{call}"
        recorder.record_usage(
            account=f"account-{call % 2}",
            model_id="gpt-5",
            endpoint="responses",
            upstream_format="openai",
            usage=UsageCounts(call, 1),
            request_id=request_id,
            duration_ms=1,
        )
        os.write(1, f"{request_id}\n".encode())
    told = recorder.statistics
    os.write(2, f"{told.recorded} {told.spilled} {told.lost}\n".encode())


if __name__ == "__main__":
    main()
