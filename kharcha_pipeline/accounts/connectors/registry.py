"""Every vendor that can be polled. A new one is one more line here."""

from __future__ import annotations

from kharcha_pipeline.accounts.connector import Connector

CONNECTORS: tuple[Connector, ...] = ()
