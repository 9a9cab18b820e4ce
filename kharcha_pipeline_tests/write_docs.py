"""Fills in the parts of the documentation that something else states already, so that they cannot drift apart.

    python -m kharcha_pipeline_tests.write_docs

Such a part stands between `<!-- begin KIND: NAME -->` and `<!-- end -->`. A test fails when one is out of date.

| Kind | What stands there |
|---|---|
| `table` | a published table or view: its comment, and its columns with their comments |
| `question` | a question from `docs/questions/`, as SQL |
| `sources` | every agent that is read, from the registry |

`accounts.schema.json`, for editors of `accounts.toml`, is written along: it is made of the connectors' settings.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from kharcha_pipeline.accounts import configuration
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.warehouse.warehouse import Warehouse, connect_published

CHECKOUT = Path(__file__).parent.parent
DOCS = CHECKOUT / "docs"
QUESTIONS = DOCS / "questions"
_PART = re.compile(r"(?P<begin><!-- begin (?P<kind>\w+)(?:: (?P<name>[\w-]+))? -->\n).*?(?P<end><!-- end -->)", re.S)


def pages() -> list[Path]:
    """Every page of the documentation that belongs to the checkout."""
    return [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def filled(text: str, page: Path, database: duckdb.DuckDBPyConnection) -> str:
    """A page with all its parts brought up to date.

    Args:
        text: the page as it is.
        page: where it is, for links.
        database: a published database.
    """
    makers: dict[str, Callable[[str], str]] = {
        "table": lambda name: table(database, name),
        "question": question,
        "sources": lambda name: sources(page),
    }
    return _PART.sub(lambda part: part["begin"] + makers[part["kind"]](part["name"] or "") + part["end"], text)


def parts(text: str, kind: str) -> list[str]:
    """The names of a page's parts of one kind."""
    return [part["name"] for part in _PART.finditer(text) if part["kind"] == kind]


def tables(database: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """Every published table and view with its comment."""
    return dict(
        database.execute(
            """
            SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = 'main'
            UNION ALL SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal
            """
        ).fetchall()
    )


def columns(database: duckdb.DuckDBPyConnection, name: str) -> list[tuple[str, str, str]]:
    """Name, type and comment of a table's columns, in their order."""
    return database.execute(
        """
        SELECT column_name, data_type, comment FROM duckdb_columns()
        WHERE schema_name = 'main' AND table_name = ? ORDER BY column_index
        """,
        [name],
    ).fetchall()


def table(database: duckdb.DuckDBPyConnection, name: str) -> str:
    """What the published database says about one of its tables, as Markdown."""
    rows = [f"| `{column}` | {kind} | {comment} |" for column, kind, comment in columns(database, name)]
    return "\n".join([tables(database)[name], "", "| Column | Type | |", "|---|---|---|", *rows, ""])


def question(name: str) -> str:
    """A question as a block of SQL."""
    return f"```sql\n{(QUESTIONS / f'{name}.sql').read_text('utf-8')}```\n"


def sources(page: Path) -> str:
    """The agents, where their logs are, and which variables move them, as Markdown with links from a page."""
    to_sources = "" if page.parent.name == "sources" else "docs/sources/"
    rows = [
        f"| [{source.title}]({to_sources}{source.name}.md) | `{source.name}` | {'<br>'.join(source.locations)} | "
        f"{'<br>'.join(f'`{name}`' for name in source.variables)} |"
        for source in SOURCES
    ]
    return "\n".join(["| Agent | Source | Where its logs are | Moved by |", "|---|---|---|---|", *rows, ""])


@contextmanager
def empty_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A published database without any usage: all tables are there."""
    with tempfile.TemporaryDirectory() as directory:
        warehouse = Warehouse(Path(directory))
        with warehouse.write():
            pass
        warehouse.publish()
        database = connect_published(warehouse.published_path)
        try:
            yield database
        finally:
            database.close()


def main() -> None:
    """Brings every page up to date and names those that were not."""
    schema = configuration.schema_text()
    if not configuration.SCHEMA_FILE.exists() or configuration.SCHEMA_FILE.read_text("utf-8") != schema:
        configuration.SCHEMA_FILE.write_text(schema, "utf-8")
        sys.stdout.write(f"{configuration.SCHEMA_FILE.relative_to(CHECKOUT)} brought up to date\n")
    with empty_database() as database:
        for page in pages():
            text = page.read_text("utf-8")
            fresh = filled(text, page, database)
            if fresh != text:
                page.write_text(fresh, "utf-8")
                sys.stdout.write(f"{page.relative_to(CHECKOUT)} brought up to date\n")


if __name__ == "__main__":
    main()
