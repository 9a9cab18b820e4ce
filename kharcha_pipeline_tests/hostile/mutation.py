"""Damages what agents write, the way disks, editors, other programs and enemies do: bytes, JSON values, whole rows.

Everything follows from a `random.Random`, so that a seed repeats a case.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any


class Token(str):
    """JSON text to write as it is, also when it is none."""


STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    2**64 + 1,
    10**12,
    10**40,
    0.5,
    1e300,
    "",
    " ",
    "\0",
    "\ud83d",
    "\udcff",
    "²²",
    "1e9",
    "17",
    "NaN",
    "x" * 3000,
    "../../../../../../etc/passwd",
    "assistant",
    "token_count",
    "StatusUpdate",
    "SubagentEvent",
    "usage.record",
    "2026-03-04T09:15:²².481Z",
    "0001-01-01T00:00:00.000Z",
    "9999-12-31T23:59:59.999Z",
    "2026-10-10T10:00:00",
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"\0": "\ud800", "id": [], "type": {}},
    Token("NaN"),
    Token("-Infinity"),
    Token("1e999999"),
    Token("-1E-999999"),
    Token("1e99999999999999999999"),
    Token("0.123456789012345678901234567890123456789"),
    Token("1" + "0" * 5000),
    Token("-0"),
    Token("01"),
    Token("["),
    Token("}"),
    Token("undefined"),
    Token("[" * 500 + "]" * 500),
    Token("[" * 5000 + "]" * 5000),
    Token('{"iterations":[' * 480 + "]}" * 480),
    Token('{"a":' * 300 + "1" + "}" * 300),
    Token('"\\u0000"'),
    Token('"\\ud800"'),
    Token('"\\'),
)
"""Values that stand where a well-behaved agent never puts them."""


def damaged_line(line: bytes, rng: Random) -> bytes:
    """One line after something happened to it; it may have become several."""
    chance = rng.random()
    if chance < 0.15:
        return damaged_bytes(line, rng)
    try:
        said = json.loads(line)
        for _ in range(1 + rng.randrange(3)):
            said = damaged_value(said, rng)
        line = spelled(said, rng)
    except (ValueError, RecursionError):  # it was damaged before
        return damaged_bytes(line, rng)
    return damaged_bytes(line, rng) if chance > 0.95 else line


def damaged_bytes(data: bytes, rng: Random) -> bytes:
    """Bytes of which some are changed, lost, repeated or new."""
    changed = bytearray(data)
    for _ in range(1 + rng.randrange(4)):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + 1 + rng.randrange(1 << rng.randrange(9)))
        match rng.randrange(8):
            case 0:
                del changed[start:end]
            case 1:
                changed[start:end] = rng.randbytes(end - start)
            case 2:
                changed[start:start] = changed[start:end]
            case 3:
                changed[start:start] = rng.choice((b"\n", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b'"', b"{", b"\\"))
            case 4:
                changed[start:end] = bytes(end - start)
            case 5 if changed:
                changed[min(start, len(changed) - 1)] ^= 1 << rng.randrange(8)
            case 6:
                del changed[start:]
            case _:
                changed[start:start] = spelled(rng.choice(STRANGE), rng)
    return bytes(changed)


def damaged_value(said: Any, rng: Random) -> Any:
    """A JSON value in which one value, somewhere, is another one."""
    if isinstance(said, dict) and said and rng.random() < 0.92:
        names = list(said)
        name = rng.choice(names)
        inner = [key for key in names if isinstance(said[key], dict | list) and said[key]]
        if inner and rng.random() < 0.6:
            name = rng.choice(inner)
            return said | {name: damaged_value(said[name], rng)}
        return _damaged_object(said, name, rng)
    if isinstance(said, list) and said and rng.random() < 0.7:
        place = rng.randrange(len(said))
        match rng.randrange(4):
            case 0:
                return said[:place] + said[place + 1 :]
            case 1:
                return [*said, *said]
            case _:
                return [*said[:place], damaged_value(said[place], rng), *said[place + 1 :]]
    return _another(said, rng)


def _damaged_object(said: dict[str, Any], name: str, rng: Random) -> dict[str, Any]:
    match rng.randrange(8):
        case 0:
            return {key: value for key, value in said.items() if key != name}
        case 1:
            return said | {rng.choice(("", "id", "type", "usage", "\0", "x" * 300)): said[name]}
        case 2:
            return said | {name: said[rng.choice(list(said))]}
        case 3:
            return said | {rng.choice(list(said)): said}
        case _:
            return said | {name: _another(said[name], rng)}


def _another(value: Any, rng: Random) -> Any:
    match rng.randrange(8):
        case 0:
            return [value]
        case 1:
            return {"value": value}
        case 2:
            return str(value)
        case 3 if isinstance(value, int):
            return value * rng.choice((-1, 10, 10**9, 10**18, 10**30)) + rng.randrange(3)
        case 4 if isinstance(value, str) and value.isdecimal() and len(value) < 4000:
            return int(value)
        case 5 if isinstance(value, str):
            return value + str(rng.choice(("", "\0", "\ud800", "é", "\U0001f980", value)))
        case _:
            return rng.choice(STRANGE)


def spelled(said: Any, rng: Random) -> bytes:
    """JSON in one of the many ways to write it: spaced, reordered, escaped or not, with repeated keys."""
    spaced = rng.random() < 0.3
    ascii_only = rng.random() < 0.5
    reordered = rng.random() < 0.3
    repeated = rng.random() < 0.05
    comma, colon = (", ", ": ") if spaced else (",", ":")

    def write(value: Any) -> str:
        if isinstance(value, Token):
            return value
        if isinstance(value, dict):
            pairs = [f"{write(str(name))}{colon}{write(item)}" for name, item in value.items()]
            if reordered:
                rng.shuffle(pairs)
            if repeated and len(min(pairs, key=len, default="")) < 100:  # not one that repeats itself within
                pairs += sorted(pairs, key=len)[:1]
            return "{" + comma.join(pairs) + "}"
        if isinstance(value, list):
            return "[" + comma.join(map(write, value)) + "]"
        return json.dumps(value, ensure_ascii=ascii_only)

    return write(said).encode("utf-8", "surrogatepass")


def damaged_lines(pool: Sequence[bytes], rng: Random) -> bytes:
    """A few lines in a row, at least one of them damaged, all of them ended."""
    chosen = [rng.choice(pool) for _ in range(1 + rng.randrange(4))]
    place = rng.randrange(len(chosen))
    chosen[place] = damaged_line(chosen[place], rng)
    return b"".join(line.rstrip(b"\n") + b"\n" for line in chosen)


def damaged_cell(value: Any, rng: Random) -> Any:
    """A value of a database's row that became another one, of another type as well."""
    match rng.randrange(6):
        case 0:
            return None
        case 1:
            return rng.choice((-(2**63), -1, 0, 1, 2**31, 2**62, 2**63 - 1, 0.5, 1e300, float("inf")))
        case 2:
            return rng.randbytes(rng.randrange(50))
        case 3:
            return rng.choice(("", "\0", "assistant", "x" * 5000, "NaN", "[" * 5000))
        case _ if isinstance(value, str):
            damaged = damaged_line(value.encode("utf-8", "surrogatepass"), rng)
            return damaged if rng.random() < 0.3 else damaged.decode("utf-8", "replace")
        case _:
            return str(value)


def damaged_pages(data: bytes, rng: Random, page: int = 4096) -> bytes:
    """A database file of which some pages were overwritten, zeroed, exchanged or cut off; its first one stays."""
    pages = [data[start : start + page] for start in range(0, len(data), page)]
    for _ in range(1 + rng.randrange(3)):
        place = rng.randrange(1, len(pages))
        match rng.randrange(6):
            case 0:
                pages[place] = rng.randbytes(page)
            case 1:
                pages[place] = bytes(page)
            case 2:
                other = rng.randrange(1, len(pages))
                pages[place], pages[other] = pages[other], pages[place]
            case 3:
                pages[place] = pages[rng.randrange(1, len(pages))]
            case 4:
                changed = bytearray(pages[place])
                for _ in range(1 + rng.randrange(20)):
                    changed[rng.randrange(min(len(changed), 1 << (3 + rng.randrange(10))))] = rng.randrange(256)
                pages[place] = bytes(changed)
            case _:
                pages[place] = pages[place][: rng.randrange(page)].ljust(page, b"\xff")
    whole = b"".join(pages)
    return whole[: rng.randrange(page, len(whole))] if rng.random() < 0.1 else whole
