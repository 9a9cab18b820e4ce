"""Writes the bundled sample, `data/sample/home`: three weeks of somebody's work, for `kharcha run` and the README.

    python -m kharcha_pipeline_tests.make_sample

Change `WEEKS` to change the story. The output is committed: small, plain text, the same bytes every time.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kharcha_pipeline_tests.corpus import Corpus, Session, Truth

SAMPLE = Path(__file__).parent.parent / "data" / "sample"
LAST_DAY = datetime(2026, 11, 20, tzinfo=UTC)

SHOP = ("/home/sam/shop", "main")
CART = ("/home/sam/shop", "feature/cart")
API = ("/home/sam/api", "feature/limits")
INFRA = ("/home/sam/infra", "main")
NOTES = ("/home/sam/notes", "draft")

FABLE, OPUS, OLDER_OPUS = "claude-fable-5-1", "claude-opus-5-5", "claude-opus-4-8"
SONNET, HAIKU = "claude-sonnet-5-5", "claude-haiku-5-5"
GPT, CODEX, SOL = "gpt-5.5", "gpt-5.3-codex", "gpt-6.1-sol"
K2, K3 = "kimi-k2.7-code", "kimi-code/kimi-k3"
UNKNOWN = "opencode/quiet-heron"  # in no price list: it shows what an unpriced model looks like

# Days before the last one, hour (UTC), agent, project and branch, models, responses, how large they are.
WEEKS: list[tuple[int, int, str, tuple[str, str], tuple[str, ...], int, float]] = [
    (21, 9, "claude-code", SHOP, (OLDER_OPUS, HAIKU), 4, 6),
    (21, 14, "codex", API, (CODEX,), 8, 9),
    (20, 10, "claude-code", SHOP, (OLDER_OPUS,), 6, 7),
    (18, 8, "codex", API, (CODEX, GPT), 8, 9),
    (18, 13, "claude-code", API, (OPUS, SONNET), 5, 8),
    (17, 9, "claude-code", CART, (OPUS, SONNET), 7, 8),
    (17, 16, "kimi-cli", INFRA, (K2,), 7, 6),
    (16, 9, "claude-code", CART, (FABLE, OPUS), 8, 9),
    (15, 11, "codex", API, (GPT,), 9, 10),
    (15, 15, "opencode", NOTES, ("anthropic/claude-sonnet-5-5",), 5, 5),
    (14, 8, "claude-code", API, (OPUS, HAIKU), 6, 8),
    (14, 20, "kimi-code", INFRA, (K3,), 5, 6),
    (12, 17, "claude-code", NOTES, (SONNET,), 3, 5),
    (11, 9, "codex", SHOP, (SOL,), 10, 11),
    (11, 13, "claude-code", CART, (FABLE,), 6, 9),
    (10, 10, "claude-code", CART, (FABLE,), 9, 10),
    (9, 8, "codex", SHOP, (SOL, GPT), 9, 11),
    (9, 15, "kimi-cli", INFRA, (K2,), 6, 6),
    (8, 9, "claude-code", API, (FABLE,), 7, 10),
    (7, 10, "codex", API, (GPT,), 8, 11),
    (7, 14, "opencode", SHOP, (UNKNOWN, "google/gemini-3.1-pro-preview"), 6, 5),
    (5, 12, "kimi-code", NOTES, (K3,), 4, 4),
    (4, 8, "claude-code", CART, (FABLE,), 9, 10),
    (4, 16, "codex", SHOP, (SOL,), 7, 11),
    (3, 9, "claude-code", API, (OPUS,), 7, 10),
    (2, 10, "kimi-code", INFRA, (K3,), 7, 8),
    (2, 14, "claude-code", SHOP, (FABLE,), 5, 9),
    (1, 9, "codex", API, (GPT, SOL), 9, 11),
    (0, 8, "claude-code", CART, (FABLE, HAIKU), 6, 10),
    (0, 11, "kimi-cli", INFRA, (K2,), 5, 7),
    (0, 13, "codex", SHOP, (SOL,), 5, 10),
]


def write_sample(home: Path) -> Truth:
    """Writes the sample below a home directory and says what is in it."""
    corpus = Corpus(home, "sample", filler=2, binary=False, trouble=0.3)
    for number, (days, hour, agent, (project, branch), models, responses, scale) in enumerate(WEEKS):
        start = LAST_DAY - timedelta(days=days) + timedelta(hours=hour, minutes=number)
        milliseconds = int(start.timestamp() * 1000)
        corpus.write(Session(number, agent, milliseconds, project, branch, models, responses, scale))
    return corpus.finish()


if __name__ == "__main__":
    shutil.rmtree(SAMPLE / "home", ignore_errors=True)
    write_sample(SAMPLE / "home")
