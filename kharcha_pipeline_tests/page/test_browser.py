"""The usage page in a real browser: what it shows, how it is used, and what it asks of the network.

    make test-browser

Playwright drives the system's chromium. Where there is none these tests fail with a sentence; `make test` leaves them
out.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from kharcha_pipeline_tests.browsing import DESKTOP, Watched
from kharcha_pipeline_tests.machine import Machine
from kharcha_pipeline_tests.page.conftest import HOSTILE_MACHINE, UNPRICED_MODEL, add_response
from kharcha_pipeline_tests.page.serving import NOW, Server, serving

pytestmark = pytest.mark.browser

PHONE: ViewportSize = {"width": 390, "height": 844}
SAMPLE_HOME = Path(__file__).parents[2] / "data" / "sample" / "home"

CONTRASTS = """() => {
    const parsed = text => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const bright = color => [0, 1, 2].map(part => color[part] / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility() || element.closest('.unseen, .skip, script, option')) continue;
        const style = getComputedStyle(element);
        let behind = element, ground = [0, 0, 0, 0];
        while (behind && ground[3] === 0) {
            ground = parsed(getComputedStyle(behind).backgroundColor);
            behind = behind.parentElement;
        }
        const ink = parsed(element.closest('svg') ? style.fill : style.color);
        const [one, other] = [bright(ink), bright(ground)].sort((a, b) => b - a);
        found.push([(one + 0.05) / (other + 0.05), element.tagName + ' ' + element.textContent.trim().slice(0, 40)]);
    }
    return found;
}"""
"""The contrast of every text with what is behind it, by the formula of WCAG 2."""


def chosen(page: Page) -> dict[str, list[str]]:
    """The parameters of the page's address that say something."""
    return parse_qs(urlsplit(page.url).query)


def test_the_sample_data_is_drawn(tmp_path: Path, watched: Watched) -> None:
    machine = Machine(tmp_path / "home", tmp_path / "data", "Europe/Berlin")
    shutil.copytree(SAMPLE_HOME, machine.home)
    machine.sync()
    with serving(machine.warehouse.published_path, now=lambda: NOW.replace(day=20)) as server:
        page = watched.page
        page.goto(server.address)
        expect(page).to_have_title("Usage and cost – Kharcha")
        expect(page.locator(".figure")).to_have_text(f"${204.19}*")
        expect(page.locator("#chart[data-drawn]")).to_be_visible()
        assert page.evaluate("Chart.getChart('chart').data.datasets.length") == len(page.locator(".legend li").all())
        expect(page.locator(".calendar rect")).to_have_count(369)
        expect(page.locator(".hours rect")).to_have_count(168)
        for heading in ("This month", "Cost per day", "A year of cost", "Models", "Projects", "Hours of the week"):
            expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def test_filters_work_with_the_keyboard_alone(server: Server, watched: Watched) -> None:
    page = watched.page
    page.goto(server.address)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the numbers")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Dates and filters":
            break
    page.keyboard.press("Enter")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "model":
            break
    page.keyboard.type(UNPRICED_MODEL)
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Apply":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_contain_text(UNPRICED_MODEL)
    assert chosen(page) == {"model": [UNPRICED_MODEL]}
    expect(page.locator(".figure")).to_have_text("unknown")
    page.locator(".chip").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".chip")).to_have_count(0)


def test_switches_and_rows_lead_to_other_views(server: Server, watched: Watched) -> None:
    page = watched.page
    page.goto(server.address)
    page.get_by_role("link", name="90 days").click()
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_role("link", name="Agent", exact=True).click()
    page.get_by_role("link", name="Week", exact=True).click()
    assert chosen(page) == {"range": ["90d"], "by": ["source"], "measure": ["tokens"], "per": ["week"]}
    expect(page.get_by_role("heading", name="Tokens per week")).to_be_visible()
    assert page.evaluate("Chart.getChart('chart').data.labels.length") == 14
    page.get_by_role("link", name="codex", exact=True).click()
    expect(page.locator(".chip").first).to_contain_text("codex")
    page.locator("summary", has_text="Dates and filters").click()
    page.get_by_label("From", exact=True).fill("2026-11-01")
    page.get_by_label("To", exact=True).fill("2026-11-05")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="1–5 Nov 2026")).to_be_visible()
    page.get_by_text("Table of tokens per week").click()
    expect(page.locator("tbody tr", has_text="2–5 Nov 2026")).to_be_visible()


def test_the_tooltip_says_the_texts_of_the_table(server: Server, watched: Watched) -> None:
    page = watched.page
    page.goto(server.address)
    said = page.evaluate(
        """() => {
            const chart = Chart.getChart('chart'), place = chart.data.labels.length - 1;
            const active = chart.data.datasets.map((_, datasetIndex) => ({datasetIndex, index: place}));
            chart.tooltip.setActiveElements(active, {x: 0, y: 0});
            chart.update();
            return [chart.tooltip.title, chart.tooltip.body.map(item => item.lines).flat(), chart.tooltip.footer];
        }"""
    )
    assert said[0] == ["Tue 10 Nov 2026"]
    assert f"{UNPRICED_MODEL}: unknown" in said[1] or any("others" in line for line in said[1])
    assert said[2][1] == "without a price: 1 response"


def test_a_publish_shows_new_numbers_without_a_restart(tmp_path: Path, watched: Watched) -> None:
    machine = Machine.below(tmp_path, timezone="Europe/Berlin")
    page = watched.page
    with serving(machine.warehouse.published_path) as server:
        page.goto(server.address)
        expect(page.get_by_role("heading", name="There is no usage yet")).to_be_visible()
        add_response(machine, "one", 1_000_000)
        page.reload()
        expect(page.locator(".figure")).to_have_text("$25.02")
        add_response(machine, "two", 1_000_000)
        page.reload()
        expect(page.locator(".figure")).to_have_text("$50.04")


def test_hostile_names_do_nothing(server: Server, watched: Watched) -> None:
    page = watched.page
    page.on("dialog", lambda dialog: pytest.fail(f"A script ran: {dialog.message}"))
    for query in ("?by=project", "?range=all", "?machine=%3Cimg+src%3Dx+onerror%3Dalert%282%29%3E"):
        page.goto(f"{server.address}/{query}")
        expect(page.locator("#chart[data-drawn]")).to_be_visible()
    expect(page.locator(".chip")).to_contain_text(HOSTILE_MACHINE)


def test_it_reads_without_javascript(browser: Browser, server: Server) -> None:
    watched = Watched(browser, java_script_enabled=False)
    page = watched.page
    page.goto(server.address)
    expect(page.get_by_text("The bars need JavaScript")).to_be_visible()
    page.get_by_text("Table of cost per day").click()
    expect(page.locator("details.table tbody tr").first).to_be_visible()
    page.get_by_text("Dates and filters").click()
    page.locator("select[name=source]").select_option("codex")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".chip")).to_contain_text("codex")
    watched.finish()


@pytest.mark.parametrize("query", ["?range=all&by=project", "?range=31d"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(
    browser: Browser, server: Server, query: str, viewport: ViewportSize, scheme: str
) -> None:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    page = context.new_page()
    page.goto(f"{server.address}/{query}")
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    contrasts = page.evaluate(CONTRASTS)
    assert contrasts
    assert [found for found in contrasts if found[0] < 4.5] == []
    unnamed = "[...document.querySelectorAll('a, button, select, input:not([type=hidden])')].filter(element => "
    unnamed += "!(element.textContent.trim() || element.labels?.length)).length"
    assert page.evaluate(unnamed) == 0
    context.close()
