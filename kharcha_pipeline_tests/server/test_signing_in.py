"""Signing in: the form, its cookie, forged requests, guesses, and who may read what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.requests import Request

from kharcha_pipeline.ingest.access import Access
from kharcha_pipeline.server.authority import Authority
from kharcha_pipeline.server.signing_in import own_address
from kharcha_pipeline_tests.ingest.rows import SEED_ROW, body
from kharcha_pipeline_tests.server.serving import PASSWORD, Answer, Site, running

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("hub")) as site:
        yield site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path) as site:
        yield site


def sign_in(site: Site, name: str = "asha", password: str = PASSWORD, **headers: str) -> Answer:
    given = {key.replace("_", "-"): value for key, value in headers.items()}
    form = urlencode({"name": name, "password": password})
    return site.ask("POST", "/sign-in", form, {**FORM, "Origin": site.address, **given})


def cookie_of(answer: Answer) -> str:
    """The cookie an answer sets."""
    return answer.headers["set-cookie"].partition(";")[0]


def test_an_admin_signs_in_sends_rows_and_signs_out(site: Site) -> None:
    form = site.ask("GET", "/sign-in")
    assert (form.status, b'name="password"' in form.body, b"<script" in form.body) == (200, True, False)
    answer = sign_in(site)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    attributes = answer.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=lax" in attributes
    assert "secure" not in attributes
    cookie = {"Cookie": cookie_of(answer)}
    session = site.ask("GET", "/api/session", headers=cookie).json
    assert (session["user"], session["role"]) == ("asha", "admin")

    rows = {**cookie, "Content-Type": "application/json"}
    path, data = "/api/usage/ingest", body(SEED_ROW)
    assert site.ask("POST", path, data, rows).status == 403
    assert site.ask("POST", path, data, rows | {"X-CSRF-Token": "wrong"}).status == 403
    assert site.ask("POST", path, data, rows | {"X-CSRF-Token": session["csrf"]}).json["upserted"] == 1

    page = site.ask("GET", "/sign-in", headers=cookie).body.decode()
    assert "signed in as asha (admin)" in page
    csrf = re.search(r'name="csrf" value="([^"]+)"', page)
    assert csrf
    assert site.ask("POST", "/sign-out", "csrf=wrong", FORM | cookie).status == 403
    assert site.ask("GET", "/api/session", headers=cookie).status == 200
    out = site.ask("POST", "/sign-out", urlencode({"csrf": csrf[1]}), FORM | cookie)
    assert (out.status, out.headers["location"]) == (303, "/sign-in")
    assert site.ask("GET", "/api/session", headers=cookie).status == 401
    assert site.ask("POST", path, data, rows | {"X-CSRF-Token": session["csrf"]}).status == 401


def test_a_reader_may_not_send_rows(site: Site) -> None:
    cookie = {"Cookie": cookie_of(sign_in(site, "ravi"))}
    csrf = site.ask("GET", "/api/session", headers=cookie).json["csrf"]
    headers = {**cookie, "Content-Type": "application/json", "X-CSRF-Token": csrf}
    answer = site.ask("POST", "/api/usage/ingest", body(SEED_ROW), headers)
    assert (answer.status, answer.json["error"]) == (401, "Only an admin may send rows.")


def test_a_wrong_token_beside_a_right_cookie_counts(site: Site) -> None:
    cookie = cookie_of(sign_in(site))
    csrf = site.ask("GET", "/api/session", headers={"Cookie": cookie}).json["csrf"]
    assert site.send(body(SEED_ROW), "wrong", Cookie=cookie, X_CSRF_Token=csrf).status == 401


def test_over_https_the_cookie_is_bound_to_it(site: Site) -> None:
    answer = sign_in(site, X_Forwarded_Proto="https", X_Forwarded_For="192.0.2.7")
    assert answer.headers["set-cookie"].startswith("__Host-kharcha_session=")
    assert "secure" in answer.headers["set-cookie"].lower()
    cookie = {"Cookie": cookie_of(answer)}
    assert site.ask("GET", "/api/session", headers=cookie | {"X-Forwarded-Proto": "https"}).status == 200
    assert site.ask("GET", "/api/session", headers=cookie).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "", "Sec_Fetch_Site": "same-origin"},
    ],
)
def test_a_form_from_another_site_is_refused(shared: Site, headers: dict[str, str]) -> None:
    answer = sign_in(shared, **headers)
    assert (answer.status, "set-cookie" in answer.headers) == (403, False)


def test_a_form_without_an_origin_is_judged_by_what_else_the_browser_says(site: Site) -> None:
    form = urlencode({"name": "asha", "password": PASSWORD})
    assert site.ask("POST", "/sign-in", form, FORM | {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert site.ask("POST", "/sign-in", form, FORM).status == 303


def test_whoever_guesses_has_to_wait_and_others_need_not(site: Site) -> None:
    for _ in range(5):
        answer = sign_in(site, password="wrong")
        assert (answer.status, b"wrong" in answer.body, "set-cookie" in answer.headers) == (401, True, False)
    answer = sign_in(site)  # the right one has to wait too
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 900
    assert sign_in(site, "ravi").status == 303
    assert sign_in(site, X_Forwarded_For="192.0.2.7").status == 303
    for number in range(15):
        sign_in(site, f"nobody{number}", "wrong")
    assert sign_in(site, "ravi").status == 429  # the address itself


def test_strange_forms_are_refused(site: Site) -> None:
    assert site.ask("POST", "/sign-in", b"{}", {"Content-Type": "application/json"}).status == 400
    assert site.ask("POST", "/sign-in", b"name=%ff", FORM).status == 400
    assert site.ask("POST", "/sign-in", "&".join(["a=1"] * 50), FORM).status == 400
    assert site.ask("POST", "/sign-in", b"x" * 20_000, FORM).status == 413
    assert site.ask("POST", "/sign-in", b"", FORM).status == 401


@pytest.mark.parametrize(
    ("wanted", "goes_to"),
    [
        ("/?range=30d", "/?range=30d"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/\r\nSet-Cookie: x=1", "/"),
    ],
)
def test_after_signing_in_one_stays_on_this_server(shared: Site, wanted: str, goes_to: str) -> None:
    assert own_address(wanted) == goes_to
    form = urlencode({"name": "asha", "password": PASSWORD, "next": wanted})
    assert shared.ask("POST", "/sign-in", form, FORM).headers["location"] == goes_to


def test_the_form_shows_what_was_wanted_without_executing_it(shared: Site) -> None:
    page = shared.ask("GET", "/sign-in?" + urlencode({"next": '/"><script>alert(1)</script>'})).body
    assert b"<script" not in page


# ---- who may read


async def allowed(
    access: Access, *, is_local: bool, is_public: bool = False, client: str = "127.0.0.1", **headers: str
) -> bool:
    scope = {
        "type": "http",
        "http_version": headers.pop("version", "1.1"),
        "method": "GET",
        "path": "/",
        "scheme": "http",
        "server": ("127.0.0.1", 8787),
        "client": (client, 1),
        "query_string": b"",
        "headers": [
            (name.replace("_", "-").lower().encode(), value.encode())
            for name, value in ({"host": "127.0.0.1:8787"} | headers).items()
        ],
    }
    return await Authority(access, is_local=is_local, is_public=is_public).may_read(Request(scope))


@pytest.fixture
def access(tmp_path: Path) -> Iterator[Access]:
    access = Access(tmp_path / "access")
    yield access
    access.close()


@pytest.mark.parametrize("host", ["127.0.0.1:8787", "localhost", "localhost:8787", "[::1]:8787", "127.0.0.9"])
@pytest.mark.anyio
async def test_this_machine_itself_may_read(access: Access, host: str) -> None:
    assert await allowed(access, is_local=True, host=host)
    assert not await allowed(access, is_local=False, host=host)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example:8787"},
        {"host": "evil@localhost.example"},
        {"host": ""},
        {"host": "0.0.0.0"},
        {"x_forwarded_for": "127.0.0.1"},
        {"forwarded": "for=127.0.0.1"},
        {"via": "1.1 proxy"},
        {"x_real_ip": "127.0.0.1"},
        {"client": "192.0.2.7"},
        {"version": "1.0"},
        {"authorization": "Bearer wrong"},
    ],
)
async def test_a_foreign_name_or_a_proxy_is_not_this_machine(access: Access, headers: dict[str, str]) -> None:
    is_this = "authorization" in headers  # a wrong token takes nothing from whom may read anyway
    assert await allowed(access, is_local=True, **headers) is is_this
    assert await allowed(access, is_local=True, is_public=True, **headers)


@pytest.mark.anyio
async def test_elsewhere_a_token_or_a_session_is_needed(access: Access) -> None:
    token = access.create_token("laptop")
    access.add_user("ravi", "reader", PASSWORD)
    session = access.sign_in("ravi", PASSWORD)
    assert await allowed(access, is_local=False, authorization=f"Bearer {token}")
    assert await allowed(access, is_local=False, cookie=f"kharcha_session={session}")
    assert not await allowed(access, is_local=False, cookie="kharcha_session=wrong")
    assert not await allowed(access, is_local=False, authorization=f"Bearer {session}")


def test_the_page_and_its_numbers_are_for_whoever_may_read(site: Site) -> None:
    elsewhere = {"X-Forwarded-For": "192.0.2.7"}
    assert site.ask("GET", "/").status == 200
    answer = site.ask("GET", "/?range=7d", headers=elsewhere)
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in?next=%2F%3Frange%3D7d")
    assert site.ask("GET", "/api/usage", headers=elsewhere).status == 401
    cookie = {"Cookie": cookie_of(sign_in(site, "ravi"))}
    assert site.ask("GET", "/", headers=elsewhere | cookie).status == 200
    for shown in ({**elsewhere, **cookie}, {**elsewhere, "Authorization": f"Bearer {site.token}"}):
        assert site.ask("GET", "/api/usage", headers=shown).status == 503  # nothing was published yet


def test_a_public_page_is_for_everybody(tmp_path: Path) -> None:
    with running(tmp_path, is_local=False, KHARCHA_PUBLIC_PAGE="1") as site:
        assert site.ask("GET", "/", headers={"Host": "usage.example.org"}).status == 200
        assert site.send(body(SEED_ROW), "wrong").status == 401


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
