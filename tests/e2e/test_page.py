"""The page in a real browser: on a desk and on a phone, light and dark, with a script and without.

Its pictures lie in the folder that ``PAGE_PICTURES`` names, for somebody to look at.
"""

import os
import signal
from collections.abc import AsyncGenerator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from runtime.fake_provider.grants import RevocationCause
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from tests.fakes.browser import Tab, installed_browser, open_tab
from tests.fakes.daemon_process import DaemonProcess, PlainCaller, daemon_process, plain_caller
from tests.fakes.eventually import eventually
from tests.fakes.token_daemon import connect, token, write_config

pytestmark = pytest.mark.anyio
BROWSER = installed_browser()
in_a_browser = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (Debian: apt-get install chromium)"
)
LABELLED = """
getComputedStyle(document.querySelector("td:last-child[data-label=why]"), "::before").content
  .split('"')[1]?.trim() ?? "none"
"""
SECTIONS = [
    "State",
    "Connections",
    "Refreshes in the last six hours",
    "Due in the next 24 hours",
    "Grants that need their users",
    "Token endpoints in trouble",
    "Members",
    "Partitions",
]
CANARY = "canary-3f9b1c77e2aa40d8"


CUT_OFF = """
[...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth)
  .concat([...document.querySelectorAll("td, tbody th")].filter((one) => one.checkVisibility()
    && one.getBoundingClientRect().right > innerWidth)).map((one) => one.textContent)
"""
"""What of a table is to be seen only by who scrolls it sideways."""


class Scene(NamedTuple):
    daemon: DaemonProcess
    caller: PlainCaller
    provider: FakeProvider
    dead: str

    async def text(self) -> str:
        async with httpx2.AsyncClient(base_url=self.daemon.http) as web:
            return (await web.get("/")).text


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Scene]:
    """A daemon with connections that live, one whose grant is dead, and an endpoint that is down."""
    folder = tmp_path_factory.mktemp("page")
    async with running_fake_provider() as provider:
        config = write_config(folder, provider)
        broken = (
            'token_endpoint = "http://127.0.0.1:9/token"\nclient_id = "x"\nclient_auth = "none"\n'
        )
        config.write_text(f"{config.read_text()}[providers.broken]\n{broken}")
        async with (
            daemon_process(
                folder / "data",
                *("--config", str(config)),
                environment={"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"},
            ) as daemon,
            plain_caller(**daemon.context) as caller,
        ):
            for _ in range(8):
                alive, _ = await connect(caller, provider)
                assert (await token(caller, alive)).code == "ok"
            dead, issued = await connect(caller, provider)
            grant = provider.book.get(issued.grant_id)
            assert grant is not None
            provider.book.revoke(grant, RevocationCause.ADMIN)
            assert (await token(caller, dead)).code == "REAUTH_REQUIRED"
            for _ in range(4):
                one, _ = await connect(caller, provider, provider_slug="broken")
                await token(caller, one, timeout_ms=500)
            secret = {"access_token": CANARY, "refresh_token": CANARY, "scope": CANARY}
            await caller.connect(credentials={"credential_type": "oauth2", "secret": secret})
            yield Scene(daemon, caller, provider, dead)


@pytest.fixture
async def tab() -> AsyncGenerator[Tab]:
    assert BROWSER is not None
    async with open_tab(BROWSER) as one:
        yield one


async def becomes(tab: Tab, expression: str) -> None:
    """Return when an expression is true in the page."""

    async def is_true() -> bool:
        return bool(await tab.value(expression))

    await eventually(is_true, within_s=20)


class _Text(HTMLParser):
    """What is read of a page, without its markup; fails on markup that does not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.said = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += f"{data} "


async def test_the_page_says_what_there_is_and_shows_no_secret(scene: Scene) -> None:
    async with httpx2.AsyncClient(base_url=scene.daemon.http) as web:
        answer = await web.get("/")
    page = _Text()
    page.feed(answer.text)

    assert answer.status_code == 200
    assert not page.open
    for said in (*SECTIONS, scene.dead, "127.0.0.1:9", scene.daemon.daemon_id, "fake", "broken"):
        assert said in page.said
    assert CANARY not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 800, 1160, 1280])
async def test_it_fits_a_desk_and_a_phone_in_both_schemes(
    scene: Scene, tab: Tab, tmp_path: Path, width: int, scheme: str
) -> None:
    await tab.look_like(width=width, scheme=scheme)
    await tab.go(scene.daemon.http)

    assert await tab.value("innerWidth") == width
    assert await tab.value("document.documentElement.scrollWidth") <= width
    headings = "[...document.querySelectorAll('h2')].map((one) => one.textContent)"
    assert await tab.value(headings) == SECTIONS
    ground = await tab.value("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(246, 247, 249)", "dark": "rgb(16, 21, 28)"}[scheme]
    assert await tab.value("document.querySelectorAll('svg rect').length") >= 2
    assert tab.errors == []
    assert await tab.value(CUT_OFF) == []
    pictures = Path(os.environ.get("PAGE_PICTURES", tmp_path))
    await tab.picture(pictures / f"page-{scheme}-{width}.png")


@in_a_browser
async def test_it_renews_itself_and_keeps_what_the_reader_has_opened(
    scene: Scene, tab: Tab
) -> None:
    await tab.look_like(width=390, scheme="light")
    await tab.go(scene.daemon.http)
    await tab.value("document.querySelector('details').open = true")
    shown = "Number(document.querySelector('ul.numbers b').textContent)"
    before = await tab.value(shown)
    header = await tab.value("document.querySelector('header').textContent")

    await connect(scene.caller, scene.provider, lives_s=3600)

    await becomes(tab, f"{shown} === {before + 1}")
    assert await tab.value("document.querySelector('details').open")
    assert await tab.value("document.querySelector('header').textContent") != header
    assert tab.errors == []


@in_a_browser
@pytest.mark.parametrize("width", [390, 1280])
async def test_its_tables_are_tables_for_a_screen_reader_also_where_rows_are_stacked(
    scene: Scene, tab: Tab, width: int
) -> None:
    await tab.look_like(width=width, scheme="light")
    await tab.go(scene.daemon.http)

    tree = await tab.tell("Accessibility.getFullAXTree")
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree["nodes"]
    ]
    assert ("columnheader", "since (UTC)") in named
    assert ("columnheader", "tried again in") in named
    assert ("rowheader", "broken") in named
    assert ("cell", "127.0.0.1:9") in named
    assert await tab.value(LABELLED) == ("why" if width == 390 else "none")


@in_a_browser
async def test_without_a_script_it_is_whole(scene: Scene, tab: Tab) -> None:
    await tab.look_like(width=1280, scheme="light", has_script=False)
    await tab.go(scene.daemon.http)

    tree = await tab.tell("Accessibility.getFullAXTree")
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree["nodes"]
        if "role" in node
    ]
    assert [name for role, name in named if role == "heading"] == ["refreshd", *SECTIONS]
    assert {name for role, name in named if role == "region"} >= set(SECTIONS)
    (drawn,) = (name for role, name in named if role == "image" and "six hours" in name)
    assert "refreshes have succeeded" in drawn


STALE = "document.getElementById('stale')"
BADGE = "document.getElementById('badge')"
TOP_OF_IT = f"{STALE}.getBoundingClientRect().top"


async def is_unanswered(tab: Tab) -> None:
    """Return when title, badge and a line above all say since when the daemon does not answer."""
    as_of = await tab.value("document.getElementById('as-of').dateTime")
    said = f"no answer since {as_of[11:19]}"
    await becomes(tab, f"document.title === 'refreshd: {said}'")
    assert await tab.value(f"{BADGE}.textContent") == said
    assert await tab.value(f"{BADGE}.className") == "state bad"
    assert as_of[11:19] in await tab.value(f"{STALE}.textContent")
    await tab.value("scrollTo(0, document.body.scrollHeight)")
    assert await tab.value(TOP_OF_IT) == 0
    assert await tab.value("document.querySelectorAll('section').length") == len(SECTIONS)


@in_a_browser
async def test_where_the_daemon_is_gone_all_of_the_page_says_so_and_leaves_what_was_there(
    tab: Tab, tmp_path: Path
) -> None:
    anywhere = {"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
    async with daemon_process(tmp_path, environment=anywhere) as daemon:
        await tab.look_like(width=390, scheme="light")
        await tab.go(daemon.http)
        await daemon.stop(signal.SIGKILL)

        await is_unanswered(tab)


@in_a_browser
async def test_of_a_daemon_that_hangs_the_page_gives_up_an_answer_and_is_as_before_when_it_goes_on(
    tab: Tab, tmp_path: Path
) -> None:
    anywhere = {"REFRESHD_HTTP_LISTEN": "127.0.0.1:0"}
    async with daemon_process(tmp_path, environment=anywhere) as daemon:
        await tab.look_like(width=390, scheme="dark")
        await tab.go(daemon.http)
        before = await tab.value("document.title")
        daemon.process.send_signal(signal.SIGSTOP)

        await is_unanswered(tab)

        daemon.process.send_signal(signal.SIGCONT)
        await becomes(tab, f"document.title === '{before}'")
        assert await tab.value(f"{BADGE}.textContent") == before.removeprefix("refreshd: ")
        assert await tab.value(f"{STALE}.textContent") == ""
        assert await tab.value("document.querySelectorAll('#stale').length") == 1
