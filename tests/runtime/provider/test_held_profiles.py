"""What a reload replaces is replaced for all; a request keeps what belongs to its own profile."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from domain.credentials import Secret
from domain.exchange import Answered, ExchangeRequest, NotSent
from domain.profile import ProviderProfile
from runtime.provider.held_profiles import Changes, Profiles
from runtime.provider.profiles import load_profiles
from runtime.provider.token_endpoint import HttpTokenEndpoint
from tests.fakes.certificates import Authority
from tests.fakes.raw_http import raw_http
from tests.runtime.provider.test_route import TOKENS, answer, certificate

PLAIN = {"token_endpoint": "https://provider.example/token", "client_id": "me"}


def loaded(folder: Path, **secrets: str) -> Profiles:
    """Return profiles with a secret each."""
    sections: dict[str, dict[str, Any]] = {}
    for slug, secret in secrets.items():
        (folder / slug).write_text(secret)
        sections[slug] = PLAIN | {"client_secret_file": str(folder / slug)}
    return load_profiles(sections)


def of(profiles: Profiles, slug: str) -> ProviderProfile:
    profile = profiles.get(slug)
    assert profile is not None
    return profile


def secrets_of(profiles: Profiles, profile: ProviderProfile) -> list[bytes]:
    return [one.reveal() for one in profiles.secrets(profile).client_secrets]


def test_the_differences_are_told_a_secret_s_among_them(tmp_path: Path):
    profiles = loaded(tmp_path, a="1", b="2", c="3")

    assert profiles.become(loaded(tmp_path, a="1", b="2", c="3")) == Changes((), (), ())
    changes = profiles.become(loaded(tmp_path, a="1", b="other", d="4"))

    assert changes == Changes(added=("d",), changed=("b",), removed=("c",))
    assert [profile.slug for profile in profiles] == ["a", "b", "d"]


def test_since_when_each_is_as_it_is_is_known(tmp_path: Path):
    profiles = loaded(tmp_path, a="1", b="2")
    begun = {slug: profiles.taken_at(slug) for slug in "ab"}

    profiles.become(loaded(tmp_path, a="1", b="other", d="4"))

    changed = profiles.taken_at("b")
    assert profiles.taken_at("a") == begun["a"]
    assert begun["b"] is not None
    assert changed is not None
    assert changed > begun["b"]
    assert profiles.taken_at("d") == changed
    assert profiles.taken_at("c") is None


def test_a_former_profile_has_its_own_secrets_and_a_same_one_the_newest(tmp_path: Path):
    (tmp_path / "one").write_text("old")
    (tmp_path / "two").write_text("older")
    files = [str(tmp_path / "one"), str(tmp_path / "two")]
    profiles = load_profiles({"a": PLAIN | {"client_secret_files": files}})
    former = of(profiles, "a")

    profiles.become(loaded(tmp_path, a="new"))
    present = of(profiles, "a")
    profiles.become(loaded(tmp_path, a="newest"))

    assert secrets_of(profiles, former) == [b"old", b"older"]
    assert secrets_of(profiles, present) == [b"newest"]
    profiles.become(load_profiles({}))
    assert secrets_of(profiles, present) == [b"newest"]


def test_what_was_replaced_too_often_uses_what_is_newest_and_holds_no_memory(tmp_path: Path):
    profiles = loaded(tmp_path, a="first")
    former = of(profiles, "a")
    for number in range(40):
        (tmp_path / "a").write_text(f"s{number}")
        section = {"client_secret_file": str(tmp_path / "a"), "timeout_s": 50 + number}
        profiles.become(load_profiles({"a": PLAIN | section}))

    assert secrets_of(profiles, former) == [b"s39"]
    profiles.become(load_profiles({}))
    for _ in range(20):
        profiles.become(load_profiles({}))
    with pytest.raises(LookupError):
        profiles.secrets(former)


async def test_authorities_that_a_file_names_now_are_trusted_after_a_reload(tmp_path: Path):
    tls, _ = certificate(tmp_path)
    good, used = tmp_path / "server.pem", tmp_path / "used.pem"
    shutil.copy(Authority(tmp_path, "another").cert, used)
    async with raw_http(answer(TOKENS), tls=tls) as server:
        section = {
            **PLAIN,
            "token_endpoint": server.url.replace("http:", "https:"),
            "client_auth": "none",
            "ca_file": str(used),
        }
        profiles = load_profiles({"acme": section})
        request = ExchangeRequest(profile=of(profiles, "acme"), presented=Secret(b"rt"))
        async with HttpTokenEndpoint(
            profiles.secrets, routes=profiles.route, now=lambda: datetime.now(UTC)
        ) as endpoint:
            before = await endpoint.exchange(request)
            shutil.copy(good, used)
            endpoint.reread()
            after = await endpoint.exchange(request)

    assert before == NotSent(code="tls_failed")
    assert isinstance(after, Answered)
