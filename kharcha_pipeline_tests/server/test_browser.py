"""The server as a person meets it: a page that is empty, rows that come in, a form to sign in."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline_tests.browsing import Watched
from kharcha_pipeline_tests.ingest.rows import SEED_ROW, body
from kharcha_pipeline_tests.server.serving import PASSWORD, process, running

pytestmark = pytest.mark.browser


def test_rows_that_come_in_appear_without_a_restart(tmp_path: Path, watched: Watched) -> None:
    data = tmp_path / "data"
    data.mkdir()
    access = Access(data)
    token = access.create_token("laptop")
    access.close()
    with process(tmp_path) as site:
        page = watched.page
        page.goto(site.address)
        expect(page).to_have_title("There is no usage yet – Kharcha")
        for cost, shown in (("0.25", "$0.25"), ("1234.5", "$1,234.50")):
            assert site.send(body({**SEED_ROW, "costUsd": cost}), token).json["ok"] is True
            for _ in range(100):
                page.goto(f"{site.address}/?range=all")
                if page.locator(".stats").get_by_text(shown, exact=True).count():
                    break
                page.wait_for_timeout(200)
            expect(page.locator(".stats").get_by_text(shown, exact=True)).to_be_visible()


def test_whoever_comes_from_elsewhere_signs_in_and_out(tmp_path: Path, watched: Watched) -> None:
    with running(tmp_path, is_local=False) as site:
        page = watched.page
        page.goto(f"{site.address}/?range=7d")
        expect(page).to_have_title("Sign in · Kharcha")
        page.get_by_label("Name").fill("ravi")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        expect(page).to_have_title("There is no usage yet – Kharcha")
        assert page.url == f"{site.address}/?range=7d"
        page.wait_for_load_state("networkidle")
        page.goto(f"{site.address}/sign-in")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        page.wait_for_load_state("networkidle")
        page.goto(site.address)
        expect(page).to_have_title("Sign in · Kharcha")
