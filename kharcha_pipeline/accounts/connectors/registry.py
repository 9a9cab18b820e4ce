"""Every vendor that can be polled. A new one is one more line here."""

from __future__ import annotations

from kharcha_pipeline.accounts.connector import Connector
from kharcha_pipeline.accounts.connectors.cursor_dashboard import CURSOR_DASHBOARD
from kharcha_pipeline.accounts.connectors.cursor_team import CURSOR_TEAM

CONNECTORS: tuple[Connector, ...] = (CURSOR_TEAM, CURSOR_DASHBOARD)
