"""Every vendor that can be polled. A new one is one more line here."""

from __future__ import annotations

from kharcha_pipeline.accounts.connector import Connector
from kharcha_pipeline.accounts.connectors.anthropic_admin import ANTHROPIC_ADMIN
from kharcha_pipeline.accounts.connectors.cursor_dashboard import CURSOR_DASHBOARD
from kharcha_pipeline.accounts.connectors.cursor_team import CURSOR_TEAM
from kharcha_pipeline.accounts.connectors.github_copilot import GITHUB_COPILOT
from kharcha_pipeline.accounts.connectors.openai_organization import OPENAI_ORGANIZATION
from kharcha_pipeline.accounts.connectors.openrouter import OPENROUTER

CONNECTORS: tuple[Connector, ...] = (
    CURSOR_TEAM,
    CURSOR_DASHBOARD,
    ANTHROPIC_ADMIN,
    OPENAI_ORGANIZATION,
    GITHUB_COPILOT,
    OPENROUTER,
)
