"""Canaries: texts that nobody else writes, planted wherever an agent writes text, and listened for in what is made.

The corpus's logs say what usage there is. Planting leaves that as it is: text becomes canaries, every object of every
line, document and row gets more fields with more of them, and lines of every other kind an agent writes come between.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import zstandard

from kharcha_pipeline_tests.corpus import FILLER
from kharcha_pipeline_tests.privacy import confessions

_CANARY = re.compile(rb"kanarie(\d{4})", re.IGNORECASE)
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\x78": "zlib"}
_LARGEST = 1 << 28


class Canaries:
    """Numbered texts, each of which tells where it was planted."""

    def __init__(self) -> None:
        self.places: list[str] = []
        self._texts: dict[str, str] = {}

    def at(self, place: str) -> str:
        """The text for a place: always the same, so that copies of a line stay copies."""
        if place not in self._texts:
            self._texts[place] = f"kanarie{len(self.places):04} sings of its {place}"
            self.places.append(place)
        return self._texts[place]

    def heard_in(self, content: bytes | str) -> set[str]:
        """The places whose canaries are in a content, also when it is compressed."""
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        return {self.places[int(number)] for one in (data, _unpacked(data)) for number in _CANARY.findall(one)}


def _unpacked(data: bytes) -> bytes:
    packed = next((name for start, name in _PACKED.items() if data.startswith(start)), "")
    with suppress(zstandard.ZstdError, zlib.error):
        if packed == "zstd":
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=_LARGEST)
        if packed == "zlib":
            return zlib.decompress(data)
    return b""


def plant(home: Path, canaries: Canaries) -> None:
    """Plants canaries in all logs below a home directory; what usage they tell of stays as it is."""
    for path in sorted(home.rglob("*")):
        agent = _agent(home, path)
        if path.suffix == ".zst":
            lines = zstandard.ZstdDecompressor().decompress(path.read_bytes(), max_output_size=_LARGEST)
            path.write_bytes(zstandard.compress(_planted_lines(agent, lines, canaries)))
        elif path.suffix == ".jsonl":
            path.write_bytes(_planted_lines(agent, path.read_bytes(), canaries))
        elif path.suffix == ".json":
            path.write_text(json.dumps(_planted(json.loads(path.read_bytes()), f"{agent} {path.suffix}", canaries)))
        elif path.suffix == ".db":
            _plant_rows(path, canaries)
    toml = canaries.at("kimi config.toml")
    with (home / ".kimi/config.toml").open("a") as stream:
        stream.write(f'\n[providers.moonshot]\ntype = "kimi"\napi_key = "{toml}"\nenv = {{ KEY = "{toml}" }}\n')
    for name in confessions.NEVER_READ:
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"token": canaries.at(name), "display": canaries.at(name)}) + "\n")


def mislead(home: Path, canaries: Canaries) -> None:
    """Adds lines, documents and rows in which a canary stands where a count, an instant or a flag belongs."""
    for path in sorted(home.rglob("*.jsonl")):
        agent = _agent(home, path)
        with path.open("ab") as stream:
            stream.write(b"\n")
            for number, said in enumerate(confessions.MISPLACED.get(agent, ())):
                stream.write(_line(_filled(said, f"{agent} misplaced {number}", canaries)))
            torn = canaries.at(f"{agent} broken line")
            stream.write(b'{"type":"assistant","usage":{"x":"' + torn.encode() + b"\n" + torn.encode() + b"\n")
    for number, said in enumerate(confessions.MISPLACED_MESSAGES):
        filled = _filled(said, f"opencode misplaced {number}", canaries)
        storage = home / ".local/share/opencode/storage/message/ses_misplaced"
        storage.mkdir(parents=True, exist_ok=True)
        (storage / f"msg_misplaced{number}.json").write_text(json.dumps(filled))
        row = (f"msg_row{number}", "ses_misplaced", canaries.at("opencode message.time_created"), 1)
        with sqlite3.connect(home / ".local/share/opencode/opencode.db") as database:
            database.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?)", (*row, json.dumps(filled)))
    (home / ".kimi/kimi.json").write_text("{" + canaries.at("kimi broken document"))


def _agent(home: Path, path: Path) -> str:
    top = path.relative_to(home).parts[0]
    return {".claude": "claude-code", ".codex": "codex", ".kimi": "kimi", ".kimi-code": "kimi-code"}.get(
        top, "opencode"
    )


def _planted_lines(agent: str, data: bytes, canaries: Canaries) -> bytes:
    """The lines of a file with canaries in them, and lines of other kinds after the first and the last one."""
    planted: list[bytes] = []
    for line in data.splitlines():
        try:
            planted.append(_line(_planted(json.loads(line), agent, canaries)))
        except ValueError:  # broken or torn, as it was
            planted.append(line + b"\n")
    others = [_line(_filled(said, f"{agent} {number}", canaries)) for number, said in _others(agent)]
    return b"".join([*planted[:1], *others, *planted[1:], *others])


def _others(agent: str) -> Iterator[tuple[int, Any]]:
    yield from enumerate(confessions.LINES.get(agent, ()))


def _line(said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _planted(said: Any, place: str, canaries: Canaries) -> Any:
    """A value whose texts are canaries, and whose objects have further fields with canaries."""
    if isinstance(said, dict):
        planted = {name: _planted(value, f"{place}.{name}", canaries) for name, value in said.items()}
        more = {name: canaries.at(f"{place}.{name}") for name in confessions.FURTHER_FIELDS if name not in said}
        nested = {"env": {"SECRET_KEY": canaries.at(f"{place}.env")}, canaries.at(f"{place} field's name"): 1}
        return planted | more | {name: value for name, value in nested.items() if name not in said}
    if isinstance(said, list):
        return [_planted(item, f"{place}[]", canaries) for item in said]
    return canaries.at(place) if isinstance(said, str) and any(phrase in said for phrase in FILLER) else said


def _filled(said: Any, place: str, canaries: Canaries) -> Any:
    """A value in which every `~` is a canary."""
    if isinstance(said, dict):
        inside = {name: f"{place}.{name}" for name in said}
        return {_filled(name, inside[name], canaries): _filled(said[name], inside[name], canaries) for name in said}
    if isinstance(said, list):
        return [_filled(item, f"{place}[]", canaries) for item in said]
    has_text = isinstance(said, str) and confessions.TEXT in said
    return said.replace(confessions.TEXT, canaries.at(place)) if has_text else said


def _plant_rows(path: Path, canaries: Canaries) -> None:
    """Plants canaries in the rows of OpenCode's database, and adds rows and tables that hold nothing else."""
    database = sqlite3.connect(path)
    with database:
        for table in ("project", "session", "message", "part"):
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            for number, *values in database.execute(f"SELECT rowid, * FROM {table}").fetchall():
                for column, value in zip(columns, values, strict=True):
                    place = f"opencode {table}.{column}"
                    if column == "data":
                        planted = json.dumps(_planted(json.loads(value), place, canaries))
                    elif column in ("title", "slug", "vcs"):
                        planted = canaries.at(place)
                    else:
                        continue
                    database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (planted, number))
        message, session = database.execute("SELECT id, session_id FROM message").fetchall()[-1]
        for number, said in enumerate(confessions.PARTS):
            data = json.dumps(_filled(said, f"opencode part {number}", canaries))
            database.execute(
                "INSERT INTO part VALUES (?, ?, ?, 1, 1, ?)", (f"prt_said{number}", message, session, data)
            )
        for table in ("account", "credential", "permission"):
            database.execute(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, data TEXT)")
            database.execute(f"INSERT INTO {table} VALUES ('1', ?)", (canaries.at(f"opencode {table}"),))
    database.close()
