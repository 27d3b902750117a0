"""A right that a daemon lacks on its server is found, and none that it has."""

from pathlib import Path

import pytest

from runtime.ledger.rights import daemon_rights
from runtime.ledger.subjects import NO_TAG
from runtime.nats.link import Login, NatsLink, open_link
from runtime.nats.permissions import covers, lacking, overlaps, own_permissions
from tests.fakes.nats_process import guarded_server
from tests.fakes.papers import block

PASSWORDS = ("DAEMON", "APP", "TOKENS", "READER", "EVENTS", "ADMIN", "SETUP", "AUDIT")
RIGHTS = daemon_rights(
    prefix="refreshd.v1", tag=NO_TAG, partitions=4, inbox="_INBOX_refreshd.token"
)


@pytest.mark.parametrize(
    ("allowed", "subject", "is_covered"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a.*.>", True),
        (">", "a", True),
        ("a.b queue", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        ("a.>", "a", False),
        ("a.b.c", "a.b", False),
        ("a.b", "a.c", False),
    ],
)
def test_a_pattern_covers_what_all_of_it_allows(allowed: str, subject: str, *, is_covered: bool):
    assert covers(allowed, subject) is is_covered


@pytest.mark.parametrize(
    ("one", "other", "do_overlap"),
    [
        ("a.b", "a.*", True),
        ("a.>", "a.b.c", True),
        ("a.*.c", "a.b.*", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.>", "a", False),
    ],
)
def test_two_patterns_overlap_where_a_subject_matches_both(
    one: str, other: str, *, do_overlap: bool
):
    assert overlaps(one, other) is do_overlap


async def lacking_with(tmp_path: Path, users: str) -> list[str] | None:
    async with guarded_server(tmp_path, users, PASSWORDS) as url:
        login = Login(url=url, user="daemon", password="pw")
        async with open_link(login, name="test", inbox_prefix="_INBOX_refreshd") as link:
            return await lacking_of(link)


async def lacking_of(link: NatsLink) -> list[str] | None:
    permissions = await own_permissions(link)
    if permissions is None:
        return None
    return lacking(permissions, publish=RIGHTS.publish, subscribe=RIGHTS.subscribe)


async def test_the_page_gives_the_daemon_all_that_it_needs(tmp_path: Path):
    assert await lacking_with(tmp_path, block("SECURITY.md", "", "accounts")) == []


async def test_each_line_that_is_left_out_is_named(tmp_path: Path):
    page = block("SECURITY.md", "", "accounts")
    for line in (
        '"$JS.API.DIRECT.GET.REFRESHD_EVENTS",',
        '"$JS.API.STREAM.PURGE.REFRESHD_LEDGER_02",',
        '"refreshd_cluster.>", ',
    ):
        assert line in page
        page = page.replace(line, "", 1)

    assert await lacking_with(tmp_path, page) == [
        "publish $JS.API.DIRECT.GET.REFRESHD_EVENTS",
        "publish $JS.API.STREAM.PURGE.REFRESHD_LEDGER_02",
        "subscribe refreshd_cluster.*",
    ]


async def test_who_may_not_ask_is_told_nothing(tmp_path: Path):
    page = block("SECURITY.md", "", "accounts").replace(', "$SYS.REQ.USER.INFO"', "", 1)

    assert await lacking_with(tmp_path, page) is None


async def test_a_user_without_bounds_lacks_nothing(link: NatsLink):
    assert await lacking_of(link) == []
