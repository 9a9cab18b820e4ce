"""What is answered to wrong addresses, before the first sync, to those who may not read, and when asked again."""

from __future__ import annotations

import asyncio
import http.client
import shutil
from html import unescape
from pathlib import Path

import duckdb
import pytest

from kharcha_pipeline.page.tables import TABLES
from kharcha_pipeline_tests.machine import LAST_DAY, Machine
from kharcha_pipeline_tests.page.conftest import HOSTILE_MACHINE, HOSTILE_PROJECT, add_response
from kharcha_pipeline_tests.page.serving import NOW, Server, serving

WRONG = {
    "range=31d": "«31d» is no value of range. Known are: 7d, 30d, 90d, year, all.",
    "measure=money": "«money» is no value of measure. Known are: cost, tokens.",
    "by=provider": "«provider» is no value of by. Known are: model, source, project.",
    "per=year": "«year» is no value of per. Known are: day, week, month.",
    "from=2026-02-30": "«2026-02-30» is no day; from takes one like 2026-11-26.",
    "to=20261126": "«20261126» is no day; to takes one like 2026-11-26.",
    "from=0001-01-01": "from takes days from 1970-01-01 to 2199-12-31, and 0001-01-01 is not one of them.",
    "to=9999-12-31": "to takes days from 1970-01-01 to 2199-12-31, and 9999-12-31 is not one of them.",
    "from=2026-11-02&to=2026-11-01": "The range ends before it begins: from 2026-11-02 to 2026-11-01.",
    "model=a&model=b": "The parameter model is given twice; each can have one value.",
    "model=" + "a" * 1001: "The value of model is longer than 1,000 characters.",
    "colour=red": "There is no parameter «colour».",
    "%00%1b=1": "There is no parameter «\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}».",
    "range=%3Cb%3E": "«<b>» is no value of range.",
}


@pytest.mark.parametrize("query", WRONG)
def test_a_wrong_address_is_answered_with_a_sentence(server: Server, query: str) -> None:
    page = server.get(f"/?{query}")
    assert page.status == 400
    assert WRONG[query] in unescape(page.text)
    assert "<b>" not in page.text
    for path in ("/api/usage?", "/usage.csv?table=days&"):
        data = server.get(path + query)
        assert data.status == 400
        assert data.data["error"].startswith(WRONG[query])


@pytest.mark.parametrize("query", ["", "?table=", "?table=secrets"])
def test_csv_asks_for_a_table_that_there_is(server: Server, query: str) -> None:
    answered = server.get(f"/usage.csv{query}")
    assert answered.status == 400
    assert answered.data["error"] == f"The parameter table must be one of {', '.join(TABLES)}."


def test_more_bars_than_anybody_could_see_are_not_drawn(server: Server) -> None:
    said = "From 1970-01-01 to 2026-11-10 there are more than 3,660 days, too many to draw."
    page = server.get("/?from=1970-01-01&per=day")
    assert page.status == 400
    assert said in unescape(page.text)
    for query in ("from=1970-01-01&to=2199-12-31", "from=1970-01-01&per=week", "from=2199-12-31"):
        assert server.get(f"/?{query}").status == 200


def test_empty_values_are_none_as_forms_send_them(server: Server) -> None:
    assert server.get("/?range=&from=&to=&model=").body == server.get("/").body


def test_days_win_over_a_range(server: Server) -> None:
    said = server.usage(range="year", from_=LAST_DAY.isoformat())
    assert said["range"] == {"name": None, "from": LAST_DAY.isoformat(), "to": LAST_DAY.isoformat()}


def test_a_name_that_is_nowhere_matches_nothing(server: Server) -> None:
    page = server.get("/", model="no-such-model")
    assert page.status == 200
    assert "No usage matches in" in page.text
    assert server.usage(model="no-such-model")["totals"]["cost_usd"] is None


def test_names_from_logs_are_text_and_nothing_else(server: Server) -> None:
    for parameters in ({}, {"machine": HOSTILE_MACHINE}, {"project": HOSTILE_PROJECT, "by": "project"}):
        page = server.get("/", **parameters).text
        assert "<img src=x" not in page
        assert "<script>alert" not in page
        assert page.count("</script>") == 3
        assert "onerror=alert(2)" in unescape(page)


def test_hidden_projects_are_named_nowhere(machine: Machine) -> None:
    projects = [
        project for (project,) in machine.query("SELECT DISTINCT project FROM daily_usage WHERE project <> ''")
    ]
    with serving(machine.warehouse.published_path, hide_projects=True) as server:
        bodies = [server.get(path).text for path in ("/", "/?by=project", "/?range=all&by=project")]
        bodies += [server.get("/api/usage?range=all&by=project").text]
        bodies += [server.get(f"/usage.csv?table={table}&range=all&by=project").text for table in TABLES]
        labels = {row["project"] for row in server.usage(range="all")["projects"]}
        refused = server.get("/", project=projects[0])
    for body in bodies:
        for project in projects:
            assert project not in unescape(body)
        assert "/home/sam" not in body
    assert labels - {""} == {f"Project {number}" for number in range(1, len(projects) + 1)}
    assert refused.status == 400
    assert "names of projects are hidden" in refused.text


def test_labels_of_hidden_projects_stay_when_others_come(tmp_path: Path, machine: Machine) -> None:
    grown = Machine(tmp_path / "home", tmp_path / "data", machine.timezone)
    shutil.copytree(machine.home, grown.home)
    shutil.copytree(machine.data, grown.data)

    def labels() -> dict[str, int]:
        with serving(grown.warehouse.published_path, hide_projects=True) as server:
            said = server.usage(range="all", source="codex")["projects"]
        return {row["project"]: row["output_tokens"] for row in said}

    before = labels()
    path = grown.home / ".claude" / "projects" / "a" / "older.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(
        '{"type":"assistant","sessionId":"older","timestamp":"2026-01-01T10:00:00Z","cwd":"/a/first","requestId":"r",'
        '"message":{"id":"older","role":"assistant","model":"claude-opus-4-6","stop_reason":"end_turn",'
        '"usage":{"input_tokens":1,"output_tokens":1}}}\n'
    )
    assert grown.sync().published
    assert labels() == before


# ------------------------------------------------------------------------------------------- asking again


def test_the_same_question_is_not_sent_twice(server: Server) -> None:
    for path in ("/", "/api/usage", "/usage.csv?table=models"):
        first = server.get(path)
        assert first.headers["cache-control"] == "private, no-cache"
        again = server.get(path, {"If-None-Match": f'"other", W/{first.headers["etag"]}'})
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
        assert server.get(path, {"If-None-Match": '"other"'}).body == first.body


def test_every_question_has_a_tag_of_its_own(server: Server) -> None:
    paths = ["/", "/?range=7d", "/?by=source", "/?measure=tokens", "/api/usage", "/usage.csv?table=days",
             "/usage.csv?table=hours"]  # fmt: skip
    assert len({server.get(path).headers["etag"] for path in paths}) == len(paths)
    assert server.get("/?range=30d").headers["etag"] == server.get("/").headers["etag"]


def test_a_publish_changes_tag_and_numbers_while_the_server_runs(tmp_path: Path, machine: Machine) -> None:
    growing = Machine(tmp_path / "home", tmp_path / "data", machine.timezone)
    growing.home.mkdir()
    with serving(growing.warehouse.published_path) as server:
        none_yet = server.get("/")
        assert none_yet.status == 200
        assert "There is no usage yet" in none_yet.text
        assert none_yet.headers["cache-control"] == "no-store"
        missing = server.get("/api/usage")
        assert missing.status == 503
        assert missing.headers["retry-after"] == "30"
        for number in (1, 2, 3):
            add_response(growing, f"session-{number}", 1000 * number)
            before = server.get("/", {"If-None-Match": none_yet.headers.get("etag", '""')})
            assert before.status == 200
            assert before.headers["etag"] != none_yet.headers.get("etag")
            assert server.usage()["totals"]["output_tokens"] == sum(1000 * one for one in range(1, number + 1))
            none_yet = before
        assert not growing.sync().published
        assert server.get("/", {"If-None-Match": none_yet.headers["etag"]}).status == 304


def test_the_next_day_changes_the_tag(machine: Machine) -> None:
    now = [NOW]
    with serving(machine.warehouse.published_path, now=lambda: now[0]) as server:
        today = server.get("/").headers["etag"]
        now[0] = NOW.replace(hour=22, minute=59)  # 23:59 in Berlin
        assert server.get("/").headers["etag"] == today
        now[0] = NOW.replace(hour=23)
        assert server.get("/").headers["etag"] != today


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_a_damaged_copy_is_told_of(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kharcha.duckdb"
    path.write_bytes(content)
    with serving(path) as server:
        for answered in (server.get("/"), server.get("/api/usage")):
            assert answered.status == 503
            assert "the next sync replaces it" in answered.text


def test_the_copy_of_another_version_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "kharcha.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE about AS FROM (VALUES ('changes', '1'), ('timezone', 'UTC')) t(name, value)")
        connection.execute("CREATE TABLE daily_usage (day DATE)")
    with serving(path) as server:
        answered = server.get("/")
        assert answered.status == 503
        assert "made by another version" in answered.text


# -------------------------------------------------------------------------------------- who may read, what is sent


def test_whoever_may_not_read_signs_in_or_gets_401(machine: Machine) -> None:
    async def nobody(request: object) -> bool:
        await asyncio.sleep(0)
        return False

    with serving(machine.warehouse.published_path, may_read=nobody) as server:
        page = server.get("/?range=7d")
        assert page.status == 303
        assert page.headers["location"] == "/sign-in?next=%2F%3Frange%3D7d"
        for path in ("/api/usage", "/usage.csv?table=days", "/usage.csv"):
            assert server.get(path).status == 401
        for answered in (page, server.get("/api/usage")):
            assert answered.headers["cache-control"] == "no-store"
            assert "etag" not in answered.headers


def test_by_default_only_this_machine_under_its_own_name_may_read(server: Server) -> None:
    assert server.get("/api/usage", {"Host": f"localhost:{server.port}"}).status == 200
    assert server.get("/api/usage", {"Host": "attacker.example"}).status == 401
    assert server.get("/", {"Host": "attacker.example"}).status == 303


def test_files_may_be_kept_for_ever_because_their_names_change(server: Server) -> None:
    page = server.get("/").text
    addresses = [part.split('"')[0] for part in page.split('="static/')[1:]]
    assert len(addresses) == 4
    for address in addresses:
        answered = server.get(f"/static/{address}")
        assert answered.status == 200
        assert answered.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert server.get("/static/page.css").status == 404
    assert server.get("/static/..%2Fhtml.py").status == 404


@pytest.mark.parametrize("path", ["/", "/api/usage", "/usage.csv?table=days", "/?range=x", "/static/none"])
def test_every_answer_forbids_what_the_page_does_not_need(server: Server, path: str) -> None:
    headers = server.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_only_get_is_answered(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/api/usage", b"{}")
    assert connection.getresponse().status == 405
    connection.close()


def test_nothing_is_written_beside_the_published_copy(machine: Machine, server: Server) -> None:
    before = {path: path.stat().st_mtime_ns for path in machine.data.iterdir()}
    for query in ("range=all", "range=all&by=project", "range=7d&measure=tokens"):
        server.get(f"/?{query}")
    assert {path: path.stat().st_mtime_ns for path in machine.data.iterdir()} == before
