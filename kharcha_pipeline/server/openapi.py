"""The description of the server for programs: OpenAPI, with the schemas of the rows as they are checked."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from kharcha_pipeline import __version__
from kharcha_pipeline.ingest.contract import MOST_ROWS, Body
from kharcha_pipeline.page.selection import DIMENSIONS, DIVISIONS, LONGEST_VALUE, MEASURES, PERIODS, RANGES
from kharcha_pipeline.server.authority import COOKIE, CSRF_HEADER
from kharcha_pipeline.server.bodies import LONGEST_BODY, SLOWEST_BODY

_COUNT = {"type": "integer", "minimum": 0, "maximum": MOST_ROWS}
_EXAMPLE = {
    "rows": [
        {
            "date": "2026-11-20",
            "agent": "claude",
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "inputTokens": 1200,
            "outputTokens": 420,
            "cacheReadTokens": 3000,
            "cacheWriteTokens": 250,
            "reasoningTokens": 0,
            "totalTokens": 4870,
            "costUsd": "0.0345131",
            "messages": 7,
            "machine": "laptop",
        }
    ]
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "required": True, "schema": {"type": "string"}}}
_CHALLENGE = {
    "WWW-Authenticate": {"description": "How to authenticate.", "required": True, "schema": {"type": "string"}}
}


def description() -> dict[str, Any]:
    """The whole document, of OpenAPI 3.1."""
    _, schemas = models_json_schema([(Body, "validation")], ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Kharcha Pipeline",
            "version": __version__,
            "description": "Takes in rows of usage from other machines, and tells the numbers of the usage "
            "page. Every error is a sentence in JSON.",
        },
        "paths": {
            "/api/usage/ingest": {"post": _ingest()},
            "/api/usage": {"get": _usage()},
            "/api/session": {"get": _session()},
            "/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document.",
                    "security": [],
                    "responses": {"200": _json("This document.", {"type": "object"})},
                }
            },
            "/healthz": {
                "get": {
                    "operationId": "health",
                    "summary": "Whether rows can be taken in.",
                    "security": [],
                    "responses": {
                        "200": _json("All is well.", _object({"ok": {"const": True}})),
                        "503": _error("The inbox cannot be read.", _RETRY_AFTER),
                    },
                }
            },
        },
        "components": {
            "schemas": {**_without_titles(schemas["$defs"]), "Error": _error_schema()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Made by `kharcha tokens create`."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": f"The cookie of somebody who signed in. Whatever changes something also needs the "
                    f"header `{CSRF_HEADER}` with the `csrf` of `/api/session`. Over https the name of the cookie "
                    "begins with `__Host-`.",
                },
            },
        },
    }


def _ingest() -> dict[str, Any]:
    answer = _object(
        {
            "ok": {"const": True},
            "upserted": {
                **_COUNT,
                "description": "Rows that stand as they were sent; all of them when none is kept.",
            },
            "changed": {**_COUNT, "description": "Of these, the rows that did not stand so before."},
            "kept": {
                **_COUNT,
                "description": "Rows with a smaller total than what stands; only a correction replaces that.",
            },
            "mismatched": {**_COUNT, "description": "Rows whose `totalTokens` is not the sum of their counts."},
            "published": {
                "enum": ["soon", "already"],
                "description": "`soon`: the tables are being brought up to date. `already`: there is nothing to do.",
            },
        }
    )
    return {
        "operationId": "ingest",
        "summary": "Take rows in, all of them or none.",
        "description": "A row replaces the one with the same date, agent, provider, model and machine, unless its "
        "total is smaller: that needs `correction`. The same body twice changes nothing. What is answered with 200 "
        "is on the disk.",
        "security": [{"token": []}, {"session": []}],
        "requestBody": {
            "required": True,
            "description": f"At most {LONGEST_BODY:,} bytes of JSON in UTF-8, within {SLOWEST_BODY:.0f} seconds.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Body"}, "example": _EXAMPLE},
            },
        },
        "responses": {
            "200": _json("The rows are taken in.", answer),
            "400": _error("The body is not as the schema says, or two rows have one key. `details` says where."),
            "401": _error("No token, a wrong or revoked one, or somebody who is no admin.", _CHALLENGE),
            "403": _error(f"Signed in, but without the right `{CSRF_HEADER}`."),
            "408": _error("The body arrived too slowly."),
            "413": _error("The body is too long."),
            "429": _error("Too many wrong tokens from this address.", _RETRY_AFTER),
            "500": _error("The server failed. Nothing was kept."),
            "503": _error("The inbox is locked, or the disk is full. Nothing was kept.", _RETRY_AFTER),
        },
    }


def _usage() -> dict[str, Any]:
    text = {"type": "string"}
    choices = {"range": RANGES, "by": DIVISIONS, "measure": MEASURES, "per": PERIODS}
    parameters: dict[str, dict[str, Any]] = {
        **{name: {"enum": ["", *values]} for name, values in choices.items()},
        **{name: {"anyOf": [{"const": ""}, {**text, "format": "date"}]} for name in ("from", "to")},
        **{name: {**text, "maxLength": LONGEST_VALUE} for name in DIMENSIONS},
    }
    return {
        "operationId": "usage",
        "summary": "The numbers of the usage page.",
        "description": "Money is a decimal string with every digit, and null where it is not known. An empty "
        "parameter is as good as none. From this machine itself, and where the page is public, nothing has to be "
        "shown.",
        "security": [{}, {"token": []}, {"session": []}],
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in parameters.items()
        ],
        "responses": {
            "200": _json("The numbers.", {"type": "object", "required": ["schema_version", "totals", "days"]}),
            "304": {"description": "They are those of `If-None-Match`."},
            "400": _error("A parameter is not known, or not right."),
            "401": _error("Not allowed to read without signing in."),
            "503": _error("Nothing was published yet, or it cannot be read just now.", _RETRY_AFTER),
        },
    }


def _session() -> dict[str, Any]:
    text = {"type": "string"}
    answer = _object(
        {
            "ok": {"const": True},
            "user": text,
            "role": {"enum": ["admin", "reader"]},
            "csrf": {**text, "minLength": 43},
        }
    )
    return {
        "operationId": "session",
        "summary": "Who is signed in, and the secret for what changes something.",
        "security": [{"session": []}],
        "responses": {
            "200": _json("Somebody is signed in.", answer),
            "401": _error("Nobody is.", _CHALLENGE),
            "503": _error("The database of users is locked.", _RETRY_AFTER),
        },
    }


def _error_schema() -> dict[str, Any]:
    text = {"type": "string"}
    details = {"type": "array", "items": _object({"where": text, "what": text})}
    return _object({"ok": {"const": False}, "error": text, "details": details})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _json(said: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": said, "content": {"application/json": {"schema": schema}}}


def _error(said: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = _json(said, {"$ref": "#/components/schemas/Error"})
    return {**answer, "headers": headers} if headers else answer


def _without_titles(schemas: dict[str, Any]) -> dict[str, Any]:
    """Schemas without the titles that pydantic makes of field names."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items() if name != "title" or not isinstance(item, str)}
        return [plain(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = plain(schemas)
    return found
