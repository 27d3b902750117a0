"""A provider's section becomes a profile and its secrets; a fault in it is told with its path."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from domain.profile import (
    NON_ROTATING,
    UNKNOWN_REUSE,
    BodyFormat,
    ExpiryShape,
    FailureClass,
    Method,
    ProviderProfile,
    ReusePolicy,
)
from runtime.config import load_config
from runtime.provider import profiles as module
from runtime.provider.held_profiles import Profiles
from runtime.provider.profiles import (
    ProfileError,
    configured_profile,
    load_profiles,
    shipped_profile,
    shipped_slugs,
)
from runtime.provider.secret_files import ConfigError

PLAIN = {"token_endpoint": "https://provider.example/token", "client_id": "me"}
SECRET = {"client_secret_file": "/secret"}
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


def section(text: str = "", **more: Any) -> dict[str, Any]:
    return {**PLAIN, **SECRET, **tomllib.loads(text), **more}


def built(text: str = "", **more: Any) -> ProviderProfile:
    return configured_profile("bank", section(text, **more))


def fault(given: dict[str, Any], slug: str = "bank") -> str:
    with pytest.raises(ProfileError) as error:
        configured_profile(slug, given)
    return str(error.value)


def test_a_plain_section_is_the_rfc_and_nothing_else():
    expected = ProviderProfile(
        slug="bank", token_endpoint="https://provider.example/token", client_id="me"
    )

    assert built() == expected


def test_every_field_of_a_profile_can_be_set():
    profile = built(
        """
        refresh_endpoint = "https://{region}.provider.example/refresh"
        allowed_hosts = ["*.provider.example"]
        params = { region = "eu" }
        basic_encoding = "raw"
        method = "GET"
        body_format = "query"
        presents = "access_token"
        token_parameter = "old_token"
        scope = "a b"
        expiry_shape = "epoch_ms"
        lifetime_default_s = 60
        reuse_policy = "grace:30"
        old_access_token_dies = true
        max_lead_s = 30
        timeout_s = 12.5
        extra_parameters = { resource = "x" }
        extra_headers = { X-Version = "2" }
        [answer]
        access_token = "data.token"
        [[error_map]]
        status = 401
        pattern = "old"
        verdict = "user"
        """
    )

    assert profile.refresh_endpoint == "https://{region}.provider.example/refresh"
    assert (profile.allowed_hosts, profile.params) == (("*.provider.example",), {"region": "eu"})
    assert (profile.method, profile.body_format) == (Method.GET, BodyFormat.QUERY)
    assert (profile.presents, profile.token_parameter) == ("access_token", "old_token")
    assert (profile.expiry_shape, profile.lifetime_default_s) == (ExpiryShape.EPOCH_MS, 60)
    assert profile.reuse_policy == ReusePolicy("grace", 30)
    assert (profile.max_lead_s, profile.timeout_s) == (30, 12.5)
    assert profile.extra_parameters == {"resource": "x"}
    assert profile.extra_headers == {"X-Version": "2"}
    assert profile.answer.access_token == "data.token"
    assert profile.error_map[0].verdict is FailureClass.USER


def test_an_empty_text_takes_away_what_may_be_absent():
    profile = built('grant_type = ""\nscope = ""\n[answer]\nsuccess_flag = ""')

    assert (profile.grant_type, profile.scope, profile.answer.success_flag) == (None, None, None)


def test_a_section_builds_upon_the_shipped_profile_of_its_name():
    profile = configured_profile("google", {"client_id": "me", **SECRET})

    assert profile.token_endpoint == shipped_profile("google").token_endpoint
    assert profile.reuse_policy == NON_ROTATING
    assert (profile.slug, profile.client_id, profile.client_secrets) == ("google", "me", 1)


def test_a_section_of_another_name_may_build_upon_a_shipped_profile():
    given = {"profile": "xero", "client_id": "me", "reuse_policy": "unknown", **SECRET}

    profile = configured_profile("xero-sandbox", given)

    assert profile.slug == "xero-sandbox"
    assert profile.token_endpoint == shipped_profile("xero").token_endpoint
    assert profile.reuse_policy == UNKNOWN_REUSE


def test_an_empty_profile_builds_upon_nothing():
    given = {**PLAIN, **SECRET, "profile": ""}

    assert configured_profile("google", given).reuse_policy == UNKNOWN_REUSE


def test_tables_are_overridden_key_by_key_and_error_lines_come_in_front():
    text = '[answer]\nerror = "code"\n[[error_map]]\ncode = "ratelimited"\nverdict = "user"'

    profile = configured_profile("slack", {"client_id": "me", **SECRET, **tomllib.loads(text)})

    shipped = shipped_profile("slack")
    assert (profile.answer.error, profile.answer.success_flag) == ("code", "ok")
    assert profile.error_map[0].verdict is FailureClass.USER
    assert profile.error_map[1:] == shipped.error_map


def test_a_place_of_ones_own_replaces_the_shipped_one_of_whatever_kind():
    given = {"issuer": "https://id.example", "client_id": "me", **SECRET}

    profile = configured_profile("google", given)

    assert (profile.issuer, profile.token_endpoint) == ("https://id.example", None)


def test_building_upon_a_shipped_profile_leaves_it_as_it_was():
    before = shipped_profile("slack")

    configured_profile("slack", {"client_id": "me", **SECRET, "answer": {"error": "x"}})

    assert shipped_profile("slack") == before


def test_nothing_is_shipped_under_a_foreign_name():
    assert "google" in shipped_slugs()
    for slug in ("bank", "../catalogue/google", ""):
        with pytest.raises(LookupError):
            shipped_profile(slug)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (section(tokn="x"), "providers.bank.tokn: no such key"),
        (section(slug="x"), "providers.bank.slug: no such key"),
        (section(client_secrets=3), "providers.bank.client_secrets: no such key"),
        (section(client_secret="hush"), "providers.bank.client_secret: a secret comes by file"),
        (section(profile="nobody"), "providers.bank.profile: none of that name"),
        (section(profile=7), "providers.bank.profile: none of that name"),
        (section(answer={"expiree": "x"}), "providers.bank.answer: Object contains unknown"),
        (section(answer={"expiry": "a..b"}), "providers.bank.answer.expiry: Expected"),
        (section(answer=[]), "providers.bank.answer: Expected"),
        (section(method="PUT"), "providers.bank.method: expected POST, GET"),
        (section(params={"a": 1}), "providers.bank.params"),
        (section(error_map={}), "providers.bank.error_map: Expected"),
        (section(error_map=[{"code": "x"}]), "providers.bank.error_map[0]: Object missing"),
        (
            section(error_map=[{"code": "x", "verdict": "dead"}]),
            "providers.bank.error_map[0].verdict: expected transient",
        ),
        (
            section(error_map=[{"verdict": "user"}]),
            "providers.bank.error_map[0]: status, code or pattern",
        ),
        (
            section(
                error_map=[{"code": "a", "verdict": "user"}, {"pattern": "(", "verdict": "user"}]
            ),
            "providers.bank.error_map[1].pattern: missing ), unterminated subpattern",
        ),
        (
            section(error_map=[{"pattern": "a" * 501, "verdict": "user"}]),
            "providers.bank.error_map[0].pattern: at most 500",
        ),
        (section(reuse_policy="grace"), "providers.bank.reuse_policy: expected none"),
        (section(reuse_policy="grace:x"), "providers.bank.reuse_policy: expected none"),
        (section(reuse_policy={"kind": "none"}), "providers.bank.reuse_policy: expected none"),
        (section(issuer="https://id.example"), "providers.bank: exactly one of"),
        (section(token_endpoint=""), "providers.bank: exactly one of"),
        (section(token_endpoint="http://provider.example/t"), "token_endpoint: https is needed"),
        (section(token_endpoint="https://u:p@provider.example/t"), "token_endpoint: not a plain"),
        (section(token_endpoint="provider.example/t"), "token_endpoint: not a plain"),
        (section(token_endpoint="https://h/{no-name}"), "token_endpoint: not a plain"),
        (section(refresh_endpoint="ftp://h/t"), "refresh_endpoint: not a plain"),
        (section(token_endpoint="https://{a}.example/t"), "token_endpoint: a template in the host"),
        (section(token_endpoint="{endpoint_base}/t"), "token_endpoint: a template in the host"),
        (section(allowed_hosts=["*"]), "providers.bank.allowed_hosts[0]: expected host"),
        (section(allowed_hosts=["a.b", "*.*.b"]), "providers.bank.allowed_hosts[1]: expected host"),
        (section(timeout_s=0.5), "providers.bank.timeout_s: expected 1 to 120"),
        (section(timeout_s=121), "providers.bank.timeout_s: expected 1 to 120"),
        (section(rate_per_s=0), "providers.bank.rate_per_s: Expected"),
        (section(rate_per_s=1, burst=0), "providers.bank.burst: Expected"),
        (section(timeout_s=float("nan")), "providers.bank.timeout_s: Expected"),
        (section(connect_timeout_s=121), "providers.bank.connect_timeout_s: expected at most"),
        (section(lifetime_default_s=float("inf")), "providers.bank.lifetime_default_s: Expected"),
        (section(grant_idle_s=-1), "providers.bank.grant_idle_s: Expected"),
        (section(extra_parameters={"Client_Secret": "x"}), "Client_Secret is not for a profile"),
        (section(extra_parameters={"refresh_token": "x"}), "refresh_token is not for a profile"),
        (section(extra_headers={"Authorization": "x"}), "Authorization is not for a profile"),
        (section(extra_headers={"cookie": "x"}), "cookie is not for a profile"),
        (section(assertion_algorithm="HS256"), "providers.bank.assertion_algorithm: expected RS"),
        (section(client_id=""), "providers.bank.client_id: needed for client_secret_basic"),
        (PLAIN, "providers.bank.client_secret_file: needed for client_secret_basic"),
        (section(private_key_file="/k"), "providers.bank.private_key_file: of no use with"),
        (section(client_auth="none"), "providers.bank.client_secret_file: of no use with none"),
        (
            PLAIN | {"client_auth": "private_key_jwt"},
            "providers.bank.private_key_file: needed for private_key_jwt",
        ),
        (section(client_secret_files=["/a"]), "providers.bank: one of client_secret_file and"),
        (PLAIN | {"client_secret_files": []}, "providers.bank.client_secret_files: expected an"),
        (
            PLAIN | {"client_secret_files": ["/a", "/b", "/c"]},
            "providers.bank.client_secret_files: expected an",
        ),
        (PLAIN | {"client_secret_files": "/a"}, "providers.bank.client_secret_files: expected an"),
        (PLAIN | {"client_secret_files": [7]}, "client_secret_files[0]: expected a path"),
        (PLAIN | {"client_secret_file": 7}, "providers.bank.client_secret_file: expected a path"),
        (PLAIN | {"client_secret_file": ""}, "providers.bank.client_secret_file: expected a path"),
    ],
)
def test_a_fault_is_told_with_its_path(given: dict[str, Any], told: str):
    message = fault(given)

    assert message.startswith("providers.bank")
    assert told in message


@pytest.mark.parametrize("slug", ["", "Bank", "a" * 51, "a.b", "a b", "bank\n"])
def test_a_table_whose_name_is_no_slug_is_refused(slug: str):
    assert "a slug is 1-50 of" in fault(section(), slug)


def test_no_fault_quotes_a_secret():
    for given in (
        section(client_secret="hush"),
        section(extra_parameters={"client_secret": "hush"}),
        section(extra_headers={"Authorization": "hush"}),
        section(token_endpoint="https://me:hush@provider.example/t"),
        section(params={"hush": 7}),
        section(reuse_policy="hush"),
    ):
        assert "hush" not in fault(given)


@pytest.mark.parametrize(
    "given",
    [
        section(token_endpoint="http://127.0.0.1:8080/t"),
        section(token_endpoint="http://localhost/t"),
        section(token_endpoint="https://h/{tenant}/t?key={key}"),
        section(token_endpoint="https://{a}.example/t", allowed_hosts=["*.example"]),
        section(token_endpoint="{endpoint_base}/t", allowed_hosts=["*.example"]),
        {**PLAIN, "client_auth": "none"},
        {**PLAIN, "client_auth": "none", "client_id": ""},
        {**PLAIN, "client_auth": "private_key_jwt", "private_key_file": "/k"},
        section(timeout_s=1),
        section(timeout_s=120),
    ],
)
def test_what_is_sound_is_taken(given: dict[str, Any]):
    assert configured_profile("bank", given).slug == "bank"


def test_secrets_are_read_from_their_files_in_their_order(tmp_path: Path):
    for name in ("new", "old", "key"):
        (tmp_path / name).write_text(f"{name} secret\n")
    (tmp_path / "key").write_bytes(KEY)
    files = [str(tmp_path / "new"), str(tmp_path / "old")]
    sections = {
        "two": PLAIN | {"client_secret_files": files},
        "one": PLAIN | {"client_secret_file": files[0]},
        "key": PLAIN | {"client_auth": "private_key_jwt", "private_key_file": f"{tmp_path}/key"},
        "nil": PLAIN | {"client_auth": "none"},
    }

    profiles = load_profiles(sections)

    shown = {
        one.slug: [secret.reveal().decode() for secret in profiles.secrets(one).client_secrets]
        for one in profiles
    }
    assert shown == {
        "two": ["new secret", "old secret"],
        "one": ["new secret"],
        "key": [],
        "nil": [],
    }
    counts = {profile.slug: profile.client_secrets for profile in profiles}
    assert counts == {"two": 2, "one": 1, "key": 0, "nil": 0}
    key = profiles.secrets(_of(profiles, "key")).private_key
    assert key is not None
    assert key.reveal() == KEY.strip()


def _of(profiles: Profiles, slug: str) -> ProviderProfile:
    profile = profiles.get(slug)
    assert profile is not None
    return profile


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe"])
def test_a_secret_file_that_is_of_no_use_is_named_with_its_path(
    tmp_path: Path, content: bytes | None
):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError, match=rf"^providers\.bank\.client_secret_file: {file}: "):
        load_profiles({"bank": PLAIN | {"client_secret_file": str(file)}})


def test_profiles_are_found_by_slug_and_show_no_secret(tmp_path: Path):
    (tmp_path / "secret").write_text("hush")
    given = {"client_secret_file": str(tmp_path / "secret"), "client_id": "me"}

    profiles = load_profiles({"zoho": given, "google": given})

    assert [profile.slug for profile in profiles] == ["google", "zoho"]
    assert len(profiles) == 2
    assert profiles.get("google") == configured_profile("google", given)
    assert profiles.get("slack") is None
    with pytest.raises(LookupError):
        profiles.secrets(shipped_profile("slack"))
    zoho = _of(profiles, "zoho")
    for shown in (repr(profiles), repr(profiles.secrets(zoho)), repr(zoho)):
        assert "hush" not in shown


def test_no_providers_are_no_profiles():
    assert list(load_profiles({})) == []
    assert list(Profiles({})) == []


def test_sections_come_from_the_configuration_file(tmp_path: Path):
    (tmp_path / "secret").write_text("hush")
    (tmp_path / "refreshd.toml").write_text(
        f'[providers.google]\nclient_id = "me"\nclient_secret_file = "{tmp_path}/secret"\n'
    )

    config = load_config(tmp_path / "refreshd.toml", environment={})

    assert load_profiles(config.providers).get("google") is not None
    assert "hush" not in repr(config)


@pytest.mark.parametrize("name", ["REFRESHD_PROVIDERS", "REFRESHD_PROVIDERS_GOOGLE_CLIENT_ID"])
def test_the_environment_does_not_reach_into_providers(name: str):
    with pytest.raises(ConfigError, match=f"^environment variable {name}: no such section"):
        load_config(None, environment={name: "x"})


@pytest.mark.parametrize("text", ["providers = 1", "[providers]\nbank = 1"])
def test_providers_that_are_no_tables_are_refused(tmp_path: Path, text: str):
    file = tmp_path / "refreshd.toml"
    file.write_text(text)

    with pytest.raises(ConfigError, match=r"\$\.providers"):
        load_config(file, environment={})


def test_the_shipped_profiles_are_part_of_the_package():
    assert module.CATALOGUE.parent == Path(module.__file__).parent
    assert all(file.suffix == ".toml" for file in module.CATALOGUE.iterdir())
