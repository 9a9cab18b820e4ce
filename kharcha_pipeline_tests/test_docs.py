"""The documentation is true: what it names exists, what it shows runs, what it links to is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import duckdb
import pytest

from kharcha_pipeline.cli.app import app
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.sources.registry import SOURCES
from kharcha_pipeline.warehouse.warehouse import connect_published
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.make_sample import SAMPLE
from kharcha_pipeline_tests.write_docs import (
    CHECKOUT,
    DOCS,
    QUESTIONS,
    columns,
    filled,
    pages,
    parts,
    tables,
)

PAGES = pages()
page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.S | re.M)
_INDENTED = re.compile(r"^    \$? ?(kharcha .*)$", re.M)
_INLINE = re.compile(r"(?<!`)`(kharcha [^`]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The bundled samples, synced: what a stranger has after `make run`."""
    machine = Machine(SAMPLE / "home", tmp_path_factory.mktemp("docs") / "data")
    machine.sync()
    return machine


@pytest.fixture
def published(sample: Machine) -> Iterator[duckdb.DuckDBPyConnection]:
    """Its published database."""
    connection = connect_published(sample.data / "kharcha.duckdb")
    yield connection
    connection.close()


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return [code for kind, code in _FENCE.findall(text_of(page)) if kind == language]


# ------------------------------------------------------------------------------------------ generated parts


@page_by_page
def test_generated_parts_are_up_to_date(page: Path, published: duckdb.DuckDBPyConnection) -> None:
    text = text_of(page)
    assert filled(text, page, published) == text, "run: python -m kharcha_pipeline_tests.write_docs"


def test_every_published_table_is_explained_and_nothing_else(published: duckdb.DuckDBPyConnection) -> None:
    explained = parts(text_of(DOCS / "tables.md"), "table")
    assert sorted(explained) == sorted(tables(published))


def test_every_table_and_every_column_says_what_it_is(published: duckdb.DuckDBPyConnection) -> None:
    for table, comment in tables(published).items():
        assert comment, table
        for column, _, said in columns(published, table):
            assert said, f"{table}.{column}"
            assert "|" not in said, f"{table}.{column} would break its row in docs/tables.md"


def test_every_question_is_in_the_tables_page() -> None:
    assert parts(text_of(DOCS / "tables.md"), "question") == [path.stem for path in sorted(QUESTIONS.glob("*.sql"))]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_every_source_has_a_page_that_names_it_and_its_variables(source: object) -> None:
    (registered,) = [known for known in SOURCES if known is source]
    text = text_of(DOCS / "sources" / f"{registered.name}.md")
    assert f"`{registered.name}`" in text
    for variable in registered.variables:
        assert variable in text


def test_every_decision_is_listed() -> None:
    listed = set(_LINK.findall(text_of(DOCS / "decisions" / "README.md")))
    assert listed == {path.name for path in (DOCS / "decisions").glob("*.md")} - {"README.md"}


# ------------------------------------------------------------------------------------------------- commands


def shown_commands(page: Path) -> list[str]:
    """Every `kharcha …` a page shows: in shell blocks, in indented blocks and within a sentence."""
    text = text_of(page)
    shell = [line.strip() for code in blocks(page, "bash") for line in code.splitlines()]
    in_blocks = [line for line in shell if line.startswith("kharcha ")]
    return [*in_blocks, *_INDENTED.findall(text), *_INLINE.findall(_FENCE.sub("", text))]


def complaint(command: str) -> str:
    """What is wrong with a command as it is shown; empty when nothing is."""
    words = shlex.split(command.split(" && ")[0], comments=True)[1:]
    words = words[: words.index("<")] if "<" in words else words
    current: click.Command = app
    context = click.Context(app, info_name="kharcha")
    while words and isinstance(current, click.Group) and not words[0].startswith("-"):
        following = current.get_command(context, words[0])
        if following is None:
            return f"there is no command {words[0]!r}"
        current, words = following, words[1:]
        context = click.Context(current, parent=context, info_name=current.name)
    known = {name for option in current.get_params(context) for name in (*option.opts, *option.secondary_opts)}
    if current.context_settings.get("ignore_unknown_options"):
        return ""
    wrong = [word for word in words if word.startswith("-") and word != "-" and word.split("=")[0] not in known]
    return f"there is no option {wrong[0]}" if wrong else ""


@page_by_page
def test_shown_commands_exist(page: Path) -> None:
    assert [(command, said) for command in shown_commands(page) if (said := complaint(command))] == []


def test_the_readme_shows_commands() -> None:
    assert len(shown_commands(CHECKOUT / "README.md")) >= 5


@page_by_page
def test_shown_targets_are_in_the_makefile(page: Path) -> None:
    makefile = (CHECKOUT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    shown = re.findall(r"^ *(?:\$ )?make ([a-z-]+)", "\n".join(blocks(page, "bash")), re.M)
    shown += re.findall(r"`make ([a-z-]+)`", text_of(page))
    assert set(shown) <= targets


@page_by_page
def test_tests_that_are_named_exist(page: Path) -> None:
    written = "".join(path.read_text("utf-8") for path in (CHECKOUT / "kharcha_pipeline_tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", text_of(page))
    assert [name for name in named if f"def {name}(" not in written] == []


# ------------------------------------------------------------------------------------------------ code runs


def test_python_of_the_readme_runs(sample: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sample.data.parent)
    for name, value in sample.environment.items():
        monkeypatch.setenv(name, value)
    found = blocks(CHECKOUT / "README.md", "python")
    assert len(found) >= 2
    variables: dict[str, object] = {}
    for code in found:
        exec(compile(code, "README.md", "exec"), variables)
    assert len(variables["daily"]) == sample.query("SELECT count(*) FROM daily_usage")[0][0]  # type: ignore[arg-type]
    assert variables["months"]


@page_by_page
def test_sql_runs_on_the_published_tables(page: Path, published: duckdb.DuckDBPyConnection) -> None:
    for code in blocks(page, "sql"):
        published.execute(code).fetchall()


def test_sql_on_the_command_line_runs(published: duckdb.DuckDBPyConnection) -> None:
    asked = 0
    for page in PAGES:
        for command in shown_commands(page):
            words = shlex.split(command, comments=True)
            if words[1] == "sql" and len(words) > 2 and words[2] != "-" and " " in words[2]:
                published.execute(words[2]).fetchall()
                asked += 1
    assert asked


def test_settings_files_are_valid_as_shown(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("schema = 1\n")
    shown = blocks(DOCS / "operations.md", "toml")
    assert shown
    for number, code in enumerate(shown):
        path = tmp_path / f"{number}.toml"
        path.write_text(code)
        settings = load_settings({"HOME": str(tmp_path), "KHARCHA_CONFIG": str(path)})
        assert settings.roots


# ---------------------------------------------------------------------------------------- links and hygiene


@cache
def anchors(page: Path) -> frozenset[str]:
    """What can be linked to within a page: its headings, as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text_of(page)), re.M)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@page_by_page
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text_of(page))):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


_TEXT = {"", ".md", ".py", ".sql", ".toml", ".txt", ".yaml", ".yml", ".cfg", ".svg"}
_OURS = ("kharcha_pipeline", "kharcha_pipeline_tests", "benchmarks", "docs", ".ci")
_PLACES_OF_ONE_MACHINE = re.compile(
    r"(?<![\w~.}])/(?:root|work)/|file:///|pypi\.org|pythonhosted\.org|--(?:extra-)?index-url|npmjs\.org"
)


def repository_texts() -> Iterator[Path]:
    """The text files a stranger gets, the sample logs left out."""
    yield from (path for path in CHECKOUT.iterdir() if path.is_file() and path.suffix in _TEXT)
    for top in _OURS:
        for path in (CHECKOUT / top).rglob("*"):
            if path.is_file() and path.suffix in _TEXT and "__pycache__" not in path.parts:
                yield path


def test_no_file_names_places_of_one_machine() -> None:
    named = [
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()}"
        for path in repository_texts()
        if path.name not in (".env", ".git", Path(__file__).name)  # .git is a file in a worktree
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        if _PLACES_OF_ONE_MACHINE.search(line)
    ]
    assert named == []
