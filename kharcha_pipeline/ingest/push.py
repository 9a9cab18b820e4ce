"""The client: sends this machine's days to another installation, and of them only what that one does not have yet.

What a destination has acknowledged is remembered row by row, so that a push may be interrupted anywhere and repeated
at will. The token and the rows are all that leaves the machine.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import ValidationError

from kharcha_pipeline import __version__
from kharcha_pipeline.hosts import is_loopback
from kharcha_pipeline.ingest.contract import LARGEST, Row, cost_text
from kharcha_pipeline.ingest.errors import IngestError, IngestUsageError
from kharcha_pipeline.ingest.store import opened, transaction
from kharcha_pipeline.warehouse.lock import exclusive
from kharcha_pipeline.warehouse.warehouse import connect_published

PATH = "/api/usage/ingest"
TOKEN_VARIABLE = "KHARCHA_PUSH_TOKEN"  # noqa: S105 - the name of a variable
KEYRING_SERVICE = "kharcha"
ROWS_AT_ONCE = 5_000
"""Rows in one request: about 1.5 MB, a quarter of what the contract allows."""

_LONGEST_ANSWER = 2**20
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")
_KEY = ("date", "agent", "provider", "model", "machine")
_COUNTS = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "reasoningTokens")
_NOTHING = {**dict.fromkeys((*_COUNTS, "totalTokens"), 0), "costUsd": None, "messages": 0}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS acknowledged (
    destination TEXT, date TEXT, agent TEXT, provider TEXT, model TEXT, machine TEXT, digest BLOB NOT NULL,
    total INTEGER NOT NULL, PRIMARY KEY (destination, date, agent, provider, model, machine)
) STRICT, WITHOUT ROWID;
"""
_FORGET = f"DELETE FROM acknowledged WHERE destination = ? AND {' AND '.join(f'{name} = ?' for name in _KEY)}"
_ROWS = """
WITH own AS (SELECT DISTINCT machine FROM priced_events WHERE evidence = 'message'),
unpriced AS (
    SELECT day AS date, source AS agent, provider, model, machine, sum(unpriced_events) AS unpriced_events
    FROM daily_usage GROUP BY ALL
)
SELECT
    date::VARCHAR AS date, agent, provider, model, machine, "inputTokens", "outputTokens", "cacheReadTokens",
    "cacheWriteTokens", "reasoningTokens", "totalTokens",
    CASE WHEN unpriced_events = 0 THEN "costUsd" END AS "costUsd", messages
FROM token_usage JOIN unpriced USING (date, agent, provider, model, machine)
WHERE machine IN (SELECT machine FROM own) ORDER BY ALL
"""
"""Days of this machine: those of which it has events itself, and not what others sent it. A cost that leaves out an
event without a price would look like the whole, so it is left unknown."""

WireRow = dict[str, Any]
Key = tuple[str, ...]


class Patience(NamedTuple):
    """How failures that may pass are borne. Times in seconds.

    Attributes:
        attempts: how often one request is tried.
        first: longest pause after the first failure; after each further one it is twice as long.
        longest: longest pause.
        longest_asked: longest pause that a destination may ask for.
        sleep: what pauses.
    """

    attempts: int = 6
    first: float = 1.0
    longest: float = 30.0
    longest_asked: float = 300.0
    sleep: Callable[[float], None] = time.sleep


class Pushed(NamedTuple):
    """What a push did, or in a dry run would do.

    Attributes:
        destination: where to.
        sent: rows that were sent and acknowledged.
        corrections: of these, the ones sent as corrections.
        changed: rows that changed something there.
        kept: rows of which the destination keeps a larger total.
        requests: requests that were acknowledged.
        unsendable: rows that the contract does not allow, which stay here: key and what is wrong.
        rows: in a dry run, what would be sent.
    """

    destination: str
    sent: int = 0
    corrections: int = 0
    changed: int = 0
    kept: int = 0
    requests: int = 0
    unsendable: Sequence[tuple[Key, str]] = ()
    rows: Sequence[WireRow] = ()


class _Difference(NamedTuple):
    """What a destination does not have yet."""

    plain: list[WireRow]
    corrections: list[WireRow]


def destination_of(address: str, *, allow_http: bool = False) -> str:
    """The address of a destination in the one form in which it is remembered.

    Raises:
        IngestUsageError: when it is no address, or a token sent there could be read on the way.
    """
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise IngestUsageError(f"{address!r} is no address to send to; write one like https://usage.example.org.")
    if parts.username is not None or parts.password is not None:
        raise IngestUsageError(
            f"The address must not hold a name or a password; the token goes into {TOKEN_VARIABLE}."
        )
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        raise IngestUsageError(
            f"Over http everybody on the way can read the token. Send to https://{host}, or accept that with "
            "--allow-http."
        )
    path = parts.path.rstrip("/").removesuffix(PATH)
    return f"{parts.scheme}://{parts.netloc.lower()}{path}"


def token_for(destination: str, environment: Mapping[str, str]) -> str:
    """The token to show at a destination, from the environment, else from the operating system's keyring.

    Raises:
        IngestUsageError: when there is none, or it is no token.
    """
    token = environment.get(TOKEN_VARIABLE, "").strip() or _from_keyring(destination)
    if not token:
        raise IngestUsageError(
            f"There is no token for {destination}. Make one there with `kharcha tokens create`, and put it into "
            f"{TOKEN_VARIABLE} or into the keyring: service {KEYRING_SERVICE}, user {destination}."
        )
    if not _TOKEN.fullmatch(token):
        raise IngestUsageError("The token has characters that no token has. Copy it again.")
    return token


def _from_keyring(destination: str) -> str:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return ""
    try:
        return keyring.get_password(KEYRING_SERVICE, destination) or ""
    except (KeyringError, RuntimeError):  # no keyring on this machine, or it stays locked
        return ""


def push(
    directory: Path,
    destination: str,
    token: Callable[[], str],
    *,
    everything: bool = False,
    correction: bool = False,
    dry_run: bool = False,
    patience: Patience | None = None,
) -> Pushed:
    """Sends what a destination does not have yet.

    Args:
        directory: the data directory, with the published tables and the memory of what was acknowledged.
        destination: as `destination_of` has it.
        token: asked for when there is something to send.
        everything: also sends what was acknowledged before.
        correction: sends everything as a correction, so that it also replaces larger totals there.
        dry_run: sends nothing and tells what would be sent.
        patience: how failures that may pass are borne.

    Raises:
        WarehouseError: when nothing was published yet.
        IngestUsageError: when the destination refuses the token, or everything seems to have vanished here.
        IngestError: when the destination cannot be reached or refuses rows; what it acknowledged is remembered.
    """
    published = directory / "kharcha.duckdb"
    if not published.exists():
        connect_published(published)  # which says what to do
    with (
        exclusive(directory / "push.lock", "send rows", longest_wait=60.0),
        closing(opened(directory / "push.sqlite", _SCHEMA)) as memory,
    ):
        path = directory / "push.sqlite"
        zone, rows = _published(published)  # under the lock: an older state must not come later
        sendable, unsendable = _checked(rows)
        known = _acknowledged(memory, destination)
        difference = _difference(
            sendable,
            set(map(_key, rows)),
            known,
            everything=everything or correction,
            correction=correction,
        )
        pushed = Pushed(destination, unsendable=unsendable)
        if dry_run:
            return pushed._replace(
                sent=len(difference.plain) + len(difference.corrections),
                corrections=len(difference.corrections),
                rows=[*difference.plain, *difference.corrections],
            )
        if not (difference.plain or difference.corrections):
            return pushed
        with _Client(destination, token(), patience or Patience()) as client:
            for is_correction, chosen in ((False, difference.plain), (True, difference.corrections)):
                for chunk, answer in client.send(chosen, zone, correction=is_correction):
                    _acknowledge(memory, path, destination, chunk)
                    pushed = pushed._replace(
                        sent=pushed.sent + len(chunk),
                        corrections=pushed.corrections + (len(chunk) if is_correction else 0),
                        changed=pushed.changed + answer.get("changed", 0),
                        kept=pushed.kept + answer.get("kept", 0),
                        requests=pushed.requests + 1,
                    )
        return pushed


# ---- what is here, and what is there


def _published(path: Path) -> tuple[str | None, list[WireRow]]:
    """The reporting zone and this machine's rows, as they go on the wire."""
    connection = connect_published(path)
    try:
        zone = connection.execute("SELECT value FROM about WHERE name = 'timezone'").fetchone()
        connection.execute(_ROWS)
        names = [column[0] for column in connection.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in connection.fetchall()]
    finally:
        connection.close()
    for row in rows:
        cost: Decimal | None = row["costUsd"]
        row["costUsd"] = None if cost is None else cost_text(cost)
    return (zone[0] if zone else None), rows


def _checked(rows: Iterable[WireRow]) -> tuple[list[WireRow], list[tuple[Key, str]]]:
    """The rows that the contract allows, and the others with what is wrong with them."""
    sendable: list[WireRow] = []
    unsendable: list[tuple[Key, str]] = []
    for row in rows:
        try:
            Row.model_validate(row)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            unsendable.append((_key(row), f"{first['loc'][0]}: {first['msg']}"))
        else:
            sendable.append(row)
    return sendable, unsendable


def _difference(
    rows: Sequence[WireRow],
    here: set[Key],
    known: Mapping[Key, tuple[bytes, int]],
    *,
    everything: bool,
    correction: bool,
) -> _Difference:
    """What has to be sent so that the destination has what is here.

    A row that became smaller, or is gone, is sent as a correction: the destination would keep the larger one. What
    was never acknowledged is not, since another machine may have sent more of it.

    Args:
        rows: what is here and can be sent.
        here: the keys of all that is here.
        known: what the destination acknowledged: digests and totals.
        everything: whether rows that it has are sent too.
        correction: whether all rows are corrections.
    """
    plain: list[WireRow] = []
    corrections: list[WireRow] = []
    for row in rows:
        before = known.get(_key(row))
        if before is not None and before[0] == _digest(row) and not everything:
            continue
        shrank = before is not None and _total(row) < before[1]
        (corrections if correction or shrank else plain).append(row)
    gone = [key for key in known if key not in here]
    if gone and not here and not correction:
        raise IngestUsageError(
            f"None of the {len(gone):,} rows that were sent before is in the tables any more. If that is right, "
            "take them back there with --correction; else look at KHARCHA_DATA_DIR and run `kharcha sync`."
        )
    corrections += [{**dict(zip(_KEY, key, strict=True)), **_NOTHING} for key in gone]
    return _Difference(plain, corrections)


def _key(row: WireRow) -> Key:
    return tuple(row[name] for name in _KEY)


def _total(row: WireRow) -> int:
    return sum(row[name] for name in _COUNTS)


def _digest(row: WireRow) -> bytes:
    said = json.dumps([row[name] for name in _NOTHING], separators=(",", ":"))
    return hashlib.blake2b(said.encode(), digest_size=16).digest()


def _acknowledged(memory: sqlite3.Connection, destination: str) -> dict[Key, tuple[bytes, int]]:
    rows = memory.execute(
        f"SELECT {', '.join(_KEY)}, digest, total FROM acknowledged WHERE destination = ?", (destination,)
    )
    return {tuple(key): (digest, total) for *key, digest, total in rows}


def _acknowledge(memory: sqlite3.Connection, path: Path, destination: str, rows: Sequence[WireRow]) -> None:
    """Remembers what a destination has. What was taken back it does not have any more."""
    with transaction(memory, path):
        for row in rows:
            if all(row[name] == value for name, value in _NOTHING.items()):
                memory.execute(_FORGET, (destination, *_key(row)))
            else:
                memory.execute(
                    "INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (destination, *_key(row), _digest(row), min(_total(row), LARGEST)),
                )


# ---- sending


class _TooLongError(Exception):
    """The destination takes less in one request."""


class _Client:
    """Sends rows to one destination. Redirects are not followed: the token is for one host."""

    def __init__(self, destination: str, token: str, patience: Patience) -> None:
        import httpx2

        self._destination = destination
        self._patience = patience
        is_here = is_loopback(urlsplit(destination).hostname or "")
        self._client = httpx2.Client(
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": f"kharcha/{__version__}",
            },
            timeout=httpx2.Timeout(60.0, connect=10.0, read=120.0),
            follow_redirects=False,
            trust_env=not is_here,  # proxies of the environment are for what is elsewhere
        )

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(
        self, rows: Sequence[WireRow], zone: str | None, *, correction: bool
    ) -> Iterator[tuple[Sequence[WireRow], dict[str, Any]]]:
        """Sends rows in chunks; yields each one with its answer as soon as it is acknowledged.

        Raises:
            IngestUsageError, IngestError: when the destination refuses, or cannot be reached.
        """
        chunks = [rows[start : start + ROWS_AT_ONCE] for start in range(0, len(rows), ROWS_AT_ONCE)]
        while chunks:
            chunk = chunks.pop(0)
            body: dict[str, Any] = {"rows": chunk, "correction": correction}
            if zone is not None:
                body["timezone"] = zone
            try:
                answer = self._post(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
            except _TooLongError:
                if len(chunk) == 1:
                    raise IngestError(f"{self._destination} takes no body as long as that of one row.") from None
                middle = len(chunk) // 2
                chunks[:0] = [chunk[:middle], chunk[middle:]]
                continue
            yield chunk, answer

    def _post(self, body: bytes) -> dict[str, Any]:
        """One request, tried again after failures that may pass."""
        import httpx2

        for attempt in range(1, self._patience.attempts + 1):
            asked: float | None = None
            try:
                status, headers, said = self._once(body)
            except httpx2.TimeoutException:
                failure = "it did not answer in time"
            except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
                raise IngestError(f"{self._destination} cannot be sent to: {error}.") from None
            except httpx2.TransportError as error:
                failure = str(error).rstrip(".") or "the connection was cut"
            else:
                if status == 200:
                    return self._understood(said)
                if status not in (408, 425, 429) and status < 500:
                    raise self._refusal(status, headers, said)
                failure = f"it answers {status}" + _sentence_of(said)
                asked = _asked_pause(headers.get("retry-after", ""))
            if attempt == self._patience.attempts:
                break
            if asked is not None and asked > self._patience.longest_asked:
                raise IngestError(
                    f"{self._destination} asks to come back in {asked:.0f} seconds ({failure}). What it acknowledged "
                    "is remembered; push again then."
                )
            self._patience.sleep(self._pause(attempt) if asked is None else asked)
        raise IngestError(
            f"{self._destination} could not be reached ({failure}), {self._patience.attempts} times. What it "
            "acknowledged is remembered; push again later."
        )

    def _once(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        with self._client.stream("POST", f"{self._destination}{PATH}", content=body) as response:
            said = b""
            for part in response.iter_bytes():
                said += part
                if len(said) > _LONGEST_ANSWER:
                    break
            return response.status_code, response.headers, said

    def _pause(self, attempt: int) -> float:
        """A pause of random length, so that many machines do not come back at the same moment."""
        longest = min(self._patience.longest, self._patience.first * 2 ** (attempt - 1))
        return random.uniform(longest / 2, longest)  # noqa: S311 - no secret

    def _understood(self, said: bytes) -> dict[str, Any]:
        with suppress(ValueError):
            answer = json.loads(said)
            if isinstance(answer, dict) and answer.get("ok") is True:
                return {name: value for name, value in answer.items() if isinstance(value, int)}
        raise IngestError(f"What listens at {self._destination} does not answer as an ingest endpoint does.")

    def _refusal(self, status: int, headers: Mapping[str, str], said: bytes) -> Exception:
        where = self._destination
        if status in (401, 403):
            return IngestUsageError(
                f"{where} refuses the token{_sentence_of(said)}. Make a new one there with `kharcha tokens create`, "
                f"and put it into {TOKEN_VARIABLE} or the keyring."
            )
        if status == 413:
            return _TooLongError()
        if 300 <= status < 400:
            target = headers.get("location", "elsewhere")[:200]
            return IngestUsageError(f"{where} leads to {target}. If that is right, send to that address.")
        if status == 404:
            return IngestUsageError(f"There is no ingest endpoint at {where}{PATH}.")
        return IngestError(f"{where} refuses the rows: it answers {status}{_sentence_of(said)}.")


def _asked_pause(text: str) -> float | None:
    """Seconds that `Retry-After` asks for, as a number or as an HTTP date; `None` when it asks for nothing."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _sentence_of(said: bytes) -> str:
    """What an endpoint says is wrong, with the first place, for a sentence of ours."""
    with suppress(ValueError):
        answer = json.loads(said)
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):
            text = answer["error"].rstrip(".")
            details = answer.get("details")
            if isinstance(details, list) and details and isinstance(details[0], dict):
                text += f" {details[0].get('where')}: {details[0].get('what')}".rstrip(".")
            return f" («{''.join(one if one.isprintable() else '?' for one in text[:300])}»)"
    return ""
