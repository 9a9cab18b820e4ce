"""What a sync says that has nothing to do. Standard library only: it is all that such a sync loads."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SCHEMA_VERSION = 1
"""Of everything this command prints as JSON. A field may be added; one that changes or goes raises this number."""


def sync_document(files_found: int, **changes: Any) -> dict[str, Any]:
    """What `kharcha sync --json` prints: the state after a sync that did nothing, with what differs from it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "changed": False,
        "files_found": files_found,
        "files_read": 0,
        "bytes_read": 0,
        "records_landed": 0,
        "records_by_source": {},
        "rejects": 0,
        "touched_days": [],
        "built_days": [],
        "cost_usd": None,
        "unpriced_events": 0,
        "warnings": [],
        **changes,
    }


def sentence(files: int) -> str:
    """That nothing changed."""
    return f"Nothing changed: {files:,} log {'file is' if files == 1 else 'files are'} as the last sync left them.\n"


def told(files: int, *, as_json: bool, quiet: bool) -> str:
    """What to print when nothing changed; a document that was asked for is not suppressed by `quiet`."""
    if as_json:
        import json

        return json.dumps(sync_document(files), indent=2) + "\n"
    return "" if quiet else sentence(files)
