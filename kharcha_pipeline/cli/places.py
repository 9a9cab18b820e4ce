"""Where logs are looked for, as people are told: without the files that only accompany a log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kharcha_pipeline.sources.source import Place


def accompanies(place: Place) -> bool:
    """Whether a place is only watched for changes, like the write-ahead log beside a database."""
    return place.path.endswith(place.watched) if place.watched else False


def looked_in(places: Sequence[tuple[str, Place]]) -> list[tuple[str, str]]:
    """`(source, path)` of every place that holds logs, existing or not."""
    return [(source, place.path) for source, place in places if not accompanies(place)]
