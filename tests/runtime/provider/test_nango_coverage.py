"""The measure of coverage builds profiles, and does not count what it cannot build."""

from typing import Any

import pytest

from bench.nango_coverage import (
    ALONE,
    BY_HAND,
    CODE,
    NAMED,
    NEEDS_CODE,
    NO_REFRESH,
    NONE,
    SILENT,
    effective,
    judged,
    report,
    section_of,
)

URL = {"token_url": "https://provider.example/token"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (URL, SILENT),
        (URL | {"refresh_params": {"grant_type": "refresh_token"}}, NAMED),
        (URL | {"refresh_url": "https://provider.example/refresh"}, NAMED),
        (URL | {"authorization_params": {"access_type": "offline"}}, NAMED),
        (URL | {"default_scopes": ["offline_access"]}, NAMED),
    ],
)
def test_a_plain_entry_needs_configuration_alone(entry: dict[str, Any], reason: str):
    assert judged("bank", entry)[1:3] == (ALONE, reason)


def test_an_entry_that_does_not_build_needs_code():
    plain = judged("bank", {"token_url": "http://provider.example/token"})
    odd = judged("bank", URL | {"token_params": {"client_secret": "x"}})

    assert (plain.group, odd.group) == (CODE, CODE)
    assert "https is needed" in plain.reason


def test_what_is_known_not_to_fit_is_not_counted():
    assert judged("bullhorn", URL).group == CODE
    assert judged("monday", URL).group == NONE
    assert not set(NEEDS_CODE) & set(NO_REFRESH)
    assert not set(BY_HAND) & (set(NEEDS_CODE) | set(NO_REFRESH))


@pytest.mark.parametrize("slug", BY_HAND)
def test_what_is_written_by_hand_builds(slug: str):
    assert judged(slug, URL)[1:3] == (ALONE, NAMED)


def test_an_alias_inherits_what_it_does_not_say():
    entries = {"a": URL | {"auth_mode": "OAUTH2"}, "b": {"alias": "a", "body_format": "json"}}

    assert effective(entries, "b") == {**URL, "auth_mode": "OAUTH2"} | entries["b"]


@pytest.mark.parametrize(
    ("host", "hosts", "lists_hosts"),
    [
        ("${connectionConfig.sub-domain}.provider.example", ["*.provider.example"], False),
        ("${connectionConfig.hostname}", ["sample"], True),
        ("accounts.provider.${connectionConfig.extension}", ["accounts.provider.sample"], True),
    ],
)
def test_a_host_of_the_users_own_is_told_apart(host: str, hosts: list[str], lists_hosts: bool):
    section, _, listed = section_of("bank", {"token_url": f"https://{host}/token || https://x/y"})

    assert (section["allowed_hosts"], listed) == (hosts, lists_hosts)


def test_the_report_counts_each_entry_once():
    text = report([judged(slug, URL) for slug in ("bank", "monday", "bullhorn")])

    assert text.startswith("3 OAUTH2 entries\n    1   33.3 %  configuration alone\n")
    assert "50.0 % of what can be refreshed" in text
