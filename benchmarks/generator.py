"""Writes a corpus of agent logs of a given size, as large and as uneven as real ones, with what is true about it.

    python -m benchmarks.generator OUT --size-mb 100 --days 30 --seed 1
    python -m benchmarks.generator OUT --append 5

writes `OUT/home` and `OUT/truth.json`; with `--append` some transcripts of an existing corpus grow. The logs come
from the generator that the tests use, with texts and sessions of realistic lengths: most are small, a few are huge,
and a gigabyte holds about 100,000 responses.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from kharcha_pipeline_tests.corpus import (
    DAY_MS,
    MODELS,
    Corpus,
    Session,
    TextKind,
    Tokens,
    Truth,
    append_corpus,
    merged,
)

LAST_DAY = date(2026, 6, 30)
"""Fixed, so that the same arguments write the same bytes on any day."""

BYTES_PER_RESPONSE = 11_600
"""Average over all agents, with the copies that forks and resumed sessions make. Measured on what is written here."""

RESPONSES_BY_AGENT = {"claude-code": 0.53, "codex": 0.34, "opencode": 0.085, "kimi-cli": 0.0225, "kimi-code": 0.0225}
"""Share of the responses. OpenCode writes a file for each, so that four of five files are its own."""

MODELS_BEFORE_2025_03 = {
    "claude-code": ("claude-3-7-sonnet-20250219", "claude-3-5-sonnet-20241022", "claude-3-5-haiku-20241022"),
    "codex": ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"),
    "opencode": ("openai/gpt-4o-2024-08-06", "anthropic/claude-3-7-sonnet-20250219", "google/gemini-2.0-flash"),
}
"""Sold during the whole of the longest history, so that nearly every response is priced, as on a real machine."""

SESSION_MEDIAN, SESSION_SPREAD, LONGEST_SESSION = 10, 1.65, 6_000
"""Responses in a session, distributed log-normally: half of the sessions have ten or fewer, one in a hundred 460."""

TEXT_LENGTHS: dict[TextKind, tuple[int, float, int]] = {
    "said": (500, 1.3, 100_000),
    "heard": (2_000, 1.65, 1_000_000),
    "title": (30, 0.3, 80),
}
"""Median, spread and maximum of a text's length in characters: tool output is what makes logs large."""

TROUBLE = 0.5
"""What is hard to read occurs half as often as in the tests: still more often than in real logs."""

POOL_CHARACTERS = 4_000_000
VOCABULARY = (
    "session token parser cursor offset buffer window cache index batch writer reader request response stream worker "
    "queue config schema column partition asset sensor schedule event model price ledger def return if not for in "
    'import class self._rows[0] += {}, "quoted" -> None:\n\t // prüft # 集計'
)


class LargeCorpus(Corpus):
    """A corpus whose texts are as long as real ones: slices of a text that was invented once."""

    def __init__(self, home: Path, seed: str) -> None:
        # Databases and compressed rollouts are left out: not every peer reads them, and all shall read the same.
        super().__init__(home, seed, binary=False, trouble=TROUBLE)
        invented = random.Random(f"{seed}:text")
        self.pool = " ".join(invented.choices(VOCABULARY.split(" "), k=POOL_CHARACTERS // 6))

    def text(self, rng: random.Random, kind: TextKind) -> str:
        """A slice of a length that such a text really has."""
        length = log_normal(rng, *TEXT_LENGTHS[kind])
        start = rng.randrange(len(self.pool) - length)
        return self.pool[start : start + length]


def log_normal(rng: random.Random, median: int, spread: float, largest: int) -> int:
    """A number of which half are below the median, and few are far above it."""
    return min(largest, 1 + int(median * math.exp(rng.gauss(0, spread))))


def planned(size_mb: float, days: int, seed: str) -> list[Session]:
    """Sessions of all agents that together take about the size asked for, oldest first: copies follow originals."""
    first_day = LAST_DAY - timedelta(days=days - 1)
    models = MODELS | MODELS_BEFORE_2025_03
    sessions: list[Session] = []
    for agent, share in RESPONSES_BY_AGENT.items():
        rng = random.Random(f"{seed}:plan:{agent}")
        wanted = max(1, round(size_mb * 1_000_000 / BYTES_PER_RESPONSE * share))
        while wanted > 0:
            responses = min(wanted, log_normal(rng, SESSION_MEDIAN, SESSION_SPREAD, LONGEST_SESSION))
            wanted -= responses
            day = (first_day - date(1970, 1, 1)).days + rng.randrange(days)
            start = day * DAY_MS + rng.randrange(6 * 3_600_000, 20 * 3_600_000)
            project = f"/home/sam/{rng.choice(('shop', 'api', 'infra', 'site'))}-{rng.randrange(6)}"
            sessions.append(Session(len(sessions), agent, start, project, "main", models[agent], responses))
    return sorted(sessions, key=lambda session: session.start)


def write(out: Path, size_mb: float, days: int, seed: str) -> None:
    """Writes a corpus and its truth."""
    corpus = LargeCorpus(out / "home", seed)
    for session in planned(size_mb, days, seed):
        corpus.write(session)
    write_truth(out, corpus.finish(), {"seed": seed, "appended": 0})


def append(out: Path, files: int) -> None:
    """Lets some Claude Code transcripts grow by one response each, and adds them to the truth."""
    stored = json.loads((out / "truth.json").read_text())
    parameters = stored["parameters"]
    parameters["appended"] += 1
    before: Truth = {
        (date.fromisoformat(row.pop("day")), row.pop("agent"), row.pop("model")): Tokens(**row)
        for row in stored["daily"]
    }
    more = append_corpus(out / "home", 1, files, LAST_DAY, parameters["appended"], agents=("claude-code",))
    write_truth(out, merged(before, more), parameters)


def write_truth(out: Path, truth: Truth, parameters: dict[str, Any]) -> None:
    """Stores the truth, one row per UTC day, source and model as logged."""
    daily = [
        {"day": day.isoformat(), "agent": source, "model": model, **asdict(tokens)}
        for (day, source, model), tokens in sorted(truth.items())
    ]
    (out / "truth.json").write_text(json.dumps({"parameters": parameters, "daily": daily}) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generator", description="Write a large log corpus.")
    parser.add_argument("out", type=Path, help="directory for `home` and `truth.json`")
    parser.add_argument("--size-mb", type=float, default=100, help="size in millions of bytes, about")
    parser.add_argument("--days", type=int, default=30, help="days the history spans")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--append", type=int, metavar="N", help="let N transcripts of an existing corpus grow")
    chosen = parser.parse_args(arguments)
    if chosen.append is not None:
        append(chosen.out, chosen.append)
    else:
        write(chosen.out, chosen.size_mb, chosen.days, chosen.seed)


if __name__ == "__main__":
    main()
