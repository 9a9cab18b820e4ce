"""Values of every kind reach DuckDB as they are, however many there are."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kharcha_pipeline.warehouse.columns import handed_over

TYPES = {
    "whole": "BIGINT",
    "perhaps": "BIGINT NULL",
    "unsigned": "UBIGINT",
    "words": "VARCHAR",
    "perhaps_words": "VARCHAR NULL",
    "data": "BLOB",
}
LARGE = st.integers(-(2**63), 2**63 - 1)
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ROWS = st.lists(
    st.tuples(LARGE, st.none() | LARGE, st.integers(0, 2**64 - 1), WORDS, st.none() | WORDS, st.binary()), max_size=70
)


def columns_of(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [[row[number] for row in rows] for number in range(len(TYPES))]


@settings(deadline=None)
@given(ROWS)
def test_what_is_handed_over_is_what_arrives(rows: list[tuple[Any, ...]]) -> None:
    with duckdb.connect() as connection:
        with handed_over(connection, "handed", TYPES, columns_of(rows)):
            connection.execute("CREATE TABLE kept AS FROM handed")
        kinds = [row[1] for row in connection.execute("DESCRIBE kept").fetchall()]
        assert kinds == [kind.removesuffix(" NULL") for kind in TYPES.values()]
        assert connection.execute("FROM kept").fetchall() == rows


def test_rows_may_be_read_more_than_once_and_not_after_the_end() -> None:
    with duckdb.connect() as connection:
        with handed_over(connection, "handed", {"number": "BIGINT"}, [range(100_000)]):
            query = "SELECT count(*), sum(a.number) FROM handed AS a JOIN handed AS b USING (number)"
            assert connection.execute(query).fetchall() == [(100_000, 4_999_950_000)]
        with pytest.raises(duckdb.CatalogException):
            connection.execute("FROM handed")


@pytest.mark.parametrize(("kind", "number"), [("BIGINT", 2**63), ("UBIGINT", 2**64), ("UBIGINT", -1)])
def test_a_number_that_does_not_fit_is_not_cut(kind: str, number: int) -> None:
    with (
        duckdb.connect() as connection,
        pytest.raises(OverflowError),
        handed_over(connection, "handed", {"number": kind}, [[number]]),
    ):
        pass
