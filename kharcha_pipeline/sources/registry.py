"""Everything that is read: agents' logs, and what came in by other doors. A new one is one more line here."""

from __future__ import annotations

from kharcha_pipeline.sources.accounts import accounts
from kharcha_pipeline.sources.claude_code import claude_code
from kharcha_pipeline.sources.codex import codex
from kharcha_pipeline.sources.ingest import ingest
from kharcha_pipeline.sources.kimi import kimi
from kharcha_pipeline.sources.opencode import opencode
from kharcha_pipeline.sources.recorder import recorder
from kharcha_pipeline.sources.source import Source

SOURCES: tuple[Source, ...] = (claude_code, codex, opencode, kimi, recorder, ingest, accounts)
