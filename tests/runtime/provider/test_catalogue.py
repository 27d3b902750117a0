"""Each shipped profile says where its facts are from, and reads its provider's answers."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from domain.credentials import Secret
from domain.exchange import Answered, Tokens, Verdict
from domain.profile import ClientAuth
from domain.verdicts import judge
from runtime.provider.client_auth import ClientAuthenticator, ProviderSecrets
from runtime.provider.endpoint_url import resolved_url
from runtime.provider.profiles import CATALOGUE, shipped_profile, shipped_slugs
from tests.conftest import ROOT
from tests.domain.shapes import NOW

SLUGS = shipped_slugs()
FIXTURES = ROOT / "tests/fixtures/providers"
SOURCES = re.compile(r"^# (\[\d+\]) \S", re.MULTILINE)
FACT = re.compile(r"^(\w+) = ")
SOURCE = re.compile(r"# .*?(\[\d+\]|RFC \d+)")


def sample(slug: str) -> dict[str, Any]:
    return json.loads((FIXTURES / f"{slug}.json").read_text())


ANSWERS = [(slug, answer) for slug in SLUGS for answer in sample(slug)["answers"]]


def test_the_catalogue_is_as_large_as_it_claims():
    assert len(SLUGS) >= 30
    assert {file.stem for file in FIXTURES.glob("*.json")} == set(SLUGS)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_shipped_profile_is_sound_and_holds_no_client(slug: str):
    profile = shipped_profile(slug)

    assert profile.slug == slug
    assert (profile.client_id, profile.client_secrets) == ("", 0)
    assert profile.client_auth in (ClientAuth.CLIENT_SECRET_BASIC, ClientAuth.CLIENT_SECRET_POST)


@pytest.mark.parametrize("slug", SLUGS)
def test_every_fact_has_a_source_and_every_source_is_used(slug: str):
    text = (CATALOGUE / f"{slug}.toml").read_text()
    defined = set(SOURCES.findall(text))
    used = {
        mark
        for line in text.splitlines()
        for mark in re.findall(r"\[\d+\]", line.partition("#")[2])
    }

    assert re.match(r"# \S.*\. Sources, looked up \d{4}-\d{2}-\d{2}:\n", text)
    assert used == defined
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if FACT.match(line):
            assert SOURCE.search(line) or SOURCE.match(before), line


@pytest.mark.parametrize("slug", SLUGS)
def test_what_is_unknown_about_reuse_is_said(slug: str):
    text = (CATALOGUE / f"{slug}.toml").read_text()

    is_unknown = shipped_profile(slug).reuse_policy.kind == "unknown"

    assert is_unknown == ("# reuse_policy is unknown" in text)


@pytest.mark.parametrize("slug", SLUGS)
def test_its_url_resolves_with_the_sample_params(slug: str):
    profile, given = shipped_profile(slug), sample(slug)
    template = profile.refresh_endpoint or profile.token_endpoint or profile.issuer
    assert template is not None

    url = resolved_url(
        template,
        values={**profile.params, **given["params"]},
        allowed_hosts=profile.allowed_hosts,
    )

    assert url == (given["url"] or profile.token_endpoint)


@pytest.mark.parametrize("slug", [slug for slug in SLUGS if shipped_profile(slug).allowed_hosts])
def test_no_param_leads_to_a_foreign_host(slug: str):
    profile = shipped_profile(slug)
    template = profile.token_endpoint or profile.issuer
    assert template is not None
    names = re.findall(r"\{(\w+)\}", template.split("/")[2])
    assert names

    for evil in ("evil.example", "evil.example.", "x.evil"):
        values = {**profile.params, **sample(slug)["params"], **dict.fromkeys(names, evil)}
        url = resolved_url(template, values=values, allowed_hosts=profile.allowed_hosts)
        assert not isinstance(url, str) or url.split("/")[2].endswith(
            tuple(host.removeprefix("*") for host in profile.allowed_hosts)
        )


@pytest.mark.parametrize("slug", SLUGS)
def test_a_secret_is_all_that_a_client_needs(slug: str):
    profile = shipped_profile(slug)
    secrets = ProviderSecrets(client_secrets=(Secret(b"s3cret"),))
    clients = ClientAuthenticator(lambda _: secrets, now=lambda: NOW)

    proof = clients.proof(
        replace(profile, client_id="id"),
        endpoint="https://host/token",
        secret_index=0,
        clock_offset=timedelta(),
    )

    assert "s3cret" not in repr(proof)
    assert type(proof).__name__ == "ClientProof"


@pytest.mark.parametrize(
    ("slug", "answer"), ANSWERS, ids=[f"{slug}: {answer['name']}" for slug, answer in ANSWERS]
)
def test_a_recorded_answer_is_read_for_what_it_means(slug: str, answer: dict[str, Any]):
    profile, gives = shipped_profile(slug), answer["gives"]

    judged = judge(profile, answered(answer), sent_scope=False)

    if "class" in gives:
        assert isinstance(judged, Verdict)
        assert (judged.failure_class, judged.code) == (gives["class"], gives["code"])
        assert judged.cools_client == gives.get("cools", judged.cools_client)
        assert judged.outcome_unknown == gives.get("in_doubt", judged.outcome_unknown)
        return
    assert isinstance(judged, Tokens)
    assert judged.access_token == "sample-access-token"
    assert judged.refresh_token == gives["refresh_token"]
    assert judged.expires_at - NOW == timedelta(seconds=gives["lifetime_s"])
    assert judged.endpoint_base == gives.get("endpoint_base")
    lives_s = gives.get("grant_lifetime_s")
    ends_at = UNSET if lives_s is None else NOW + timedelta(seconds=lives_s)
    assert judged.grant_expires_at == ends_at
    assert judged.notes == ()


@pytest.mark.parametrize("slug", SLUGS)
def test_each_profile_has_an_answer_of_a_dead_grant_and_one_of_success(slug: str):
    kinds = [answer["gives"].get("class", "success") for answer in sample(slug)["answers"]]

    assert {"success", "user"} <= set(kinds)


def answered(answer: dict[str, Any]) -> Answered:
    body = answer["body"]
    text = body if isinstance(body, str) else json.dumps(body)
    text = re.sub(
        r"\{sent_at\+(\d+)\}",
        lambda found: (NOW + timedelta(seconds=int(found[1]))).isoformat(),
        text,
    )
    return Answered(status=answer["status"], body=Secret(text.encode()), sent_at=NOW)


@pytest.mark.parametrize(
    ("slug", "endpoint", "reuse_policy"),
    [
        ("hubspot", "https://api.hubapi.com/oauth/2026-03/token", "unknown"),
        ("shopify", "https://{shop}.myshopify.com/admin/oauth/access_token", "grace:2592000"),
    ],
)
def test_what_changed_in_2026_is_in_the_catalogue(slug: str, endpoint: str, reuse_policy: str):
    profile = shipped_profile(slug)

    assert (profile.token_endpoint, str(profile.reuse_policy)) == (endpoint, reuse_policy)
