"""`/openapi.json` is true: schemathesis asks the running server for what the description allows, and for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks

from kharcha_pipeline.ingest.contract import FIRST_DAY, Body
from kharcha_pipeline.server.openapi import description
from kharcha_pipeline.settings import load_settings
from kharcha_pipeline.sync import sync
from kharcha_pipeline_tests.ingest.rows import SEED_ROW
from kharcha_pipeline_tests.server.serving import Site, environment_of, running

# What a schema cannot say: which days can have been, and which zones there are.
schemathesis.openapi.format("date", st.dates(FIRST_DAY, date(2026, 1, 1)).map(str))
schemathesis.openapi.format("iana-timezone", st.sampled_from(["UTC", "Asia/Kolkata", "America/St_Johns"]))

SCHEMA = schemathesis.openapi.from_dict(description())
load_all_checks()

STATUSES: dict[int, int] = {}
"""How often the server gave which answer."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("hub")
    sync(load_settings(environment_of(directory)))  # so that there are numbers to ask for
    with running(directory) as site:
        yield site


def without_what_no_schema_can_say(case: Case) -> None:
    """Rows of a body get different keys, and counts whose sum over all requests of a test is a `BIGINT`.

    A range begins before it ends.
    """
    if case.query and case.query.get("from") and case.query.get("to"):
        case.query["from"], case.query["to"] = sorted((case.query["from"], case.query["to"]))
    body = case.body
    if not isinstance(body, dict) or not isinstance(body.get("rows"), list):
        return
    body.pop("strict", None)
    for number, row in enumerate(body["rows"]):
        if isinstance(row, dict):
            if isinstance(row.get("machine", ""), str) and len(row.get("machine", "")) < 200:
                row["machine"] = f"{row.get('machine', '')}{number}"
            for name, value in row.items():
                if isinstance(value, float) and value.is_integer():  # for JSON Schema 1.0 is an integer too
                    row[name] = value = int(value)
                if type(value) is int and 10**9 < value < 2**63:
                    row[name] = value % 10**9


@SCHEMA.parametrize()
@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None, derandomize=True)
def test_the_server_keeps_to_its_description(case: Case, site: Site) -> None:
    if case.meta is not None and case.meta.generation.mode.is_positive:
        without_what_no_schema_can_say(case)
    answer = case.call_and_validate(
        base_url=site.address,
        headers={"Authorization": f"Bearer {site.token}"},
        excluded_checks=[CHECKS.get_one("ignored_auth")],  # asks with a cookie; our own tests ask for all of it
    )
    STATUSES[answer.status_code] = STATUSES.get(answer.status_code, 0) + 1


def test_rows_were_taken_in_and_refused_in_great_number() -> None:
    assert STATUSES[200] > 20, STATUSES
    assert STATUSES[400] > 20, STATUSES
    assert STATUSES.keys() <= {200, 400, 401, 405}, STATUSES


def test_the_description_can_be_had_from_the_server(site: Site) -> None:
    answer = site.ask("GET", "/openapi.json")
    assert (answer.status, answer.json) == (200, description())


def test_every_address_for_programs_is_described(site: Site) -> None:
    described = {(path, method.upper()) for path, item in description()["paths"].items() for method in item}
    assert site.application is not None
    routed: set[tuple[str, str]] = set()
    for route in site.application.routes:
        methods: Any = getattr(route, "methods", None) or set()
        routed |= {(route.path, method) for method in methods - {"HEAD"}}  # type: ignore[attr-defined]
    assert {path for path, _ in described} <= {path for path, _ in routed}
    assert described <= routed
    assert {one for one in routed if one[0].startswith("/api/")} <= described


def test_the_schema_of_the_body_names_the_fields_of_the_contract() -> None:
    schemas = description()["components"]["schemas"]
    assert set(schemas["Row"]["properties"]) == {*SEED_ROW, "machine"}
    assert set(schemas["Row"]["required"]) == set(SEED_ROW)
    assert schemas["Row"]["additionalProperties"] is schemas["Body"]["additionalProperties"] is False
    assert Body.model_fields.keys() == schemas["Body"]["properties"].keys()
