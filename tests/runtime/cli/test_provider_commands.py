"""``refreshd provider``: what is configured and shipped, and whether the provider takes the client."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domain.profile import ErrorRule, FailureClass, ProviderProfile
from runtime.cli.asking import CommandError
from runtime.cli.provider_commands import (
    Reading,
    _probe,
    effective_fields,
    list_command,
    meaning_of,
    run_test,
    show,
)
from runtime.config import Config, load_config
from runtime.fake_provider.provider import FakeProvider
from runtime.fake_provider.server import running_fake_provider
from runtime.provider.profiles import (
    ProfileError,
    configured_profile,
    shipped_profile,
    shipped_slugs,
)
from runtime.provider.token_endpoint import ProbeReport
from tests.fakes.token_daemon import write_config

Show = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFRESHD_CONFIG", raising=False)


def config_of(folder: Path, text: str) -> Path:
    (folder / "secret").write_text("hush")
    path = folder / "refreshd.toml"
    path.write_text(text.replace("SECRET", str(folder / "secret")))
    return path


GOOGLE = '[providers.google]\nclient_id = "me"\nclient_secret_file = "SECRET"\n'


def report(**changes: Any) -> ProbeReport:
    fields: dict[str, Any] = {
        "outcome": "answered",
        "status": 400,
        "error_code": "invalid_grant",
        "elapsed_s": 0.1,
    }
    return ProbeReport(**{**fields, **changes})


def test_the_list_holds_what_is_configured_and_what_is_shipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    bank = 'client_id = "b"\nclient_secret_file = "SECRET"\ntoken_endpoint = "https://b.example/t"'
    config = config_of(tmp_path, f"{GOOGLE}[providers.bank]\n{bank}")

    list_command(reading=Reading(config=config, output="json"))
    rows = {row["slug"]: row for row in json.loads(capsys.readouterr().out)}
    list_command(reading=Reading(config=config))
    lines = capsys.readouterr().out.splitlines()

    assert set(rows) == {"bank", *shipped_slugs()}
    assert rows["google"]["origin"] == rows["bank"]["origin"] == "configured"
    assert rows["slack"]["origin"] == "shipped"
    assert rows["bank"]["endpoint"] == "https://b.example/t"
    assert lines[0].split() == ["SLUG", "ORIGIN", "CLIENT_AUTH", "REUSE_POLICY", "ENDPOINT"]
    assert len(lines) == len(rows) + 1


def test_a_profile_is_shown_without_its_defaults_and_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = GOOGLE + 'extra_headers = { X-Api-Key = "hush", X-Version = "2" }\n'
    config = config_of(tmp_path, text)

    show("google", reading=Reading(config=config, output="json"))
    out = capsys.readouterr().out
    show("google", reading=Reading(config=config))

    shown = json.loads(out)
    assert shown == {
        "slug": "google",
        "origin": "configured",
        "token_endpoint": "https://oauth2.googleapis.com/token",
        "client_id": "me",
        "client_auth": "client_secret_post",
        "extra_headers": {"X-Api-Key": "***", "X-Version": "2"},
        "reuse_policy": "non_rotating",
        "grant_idle_s": 15552000.0,
    }
    assert "hush" not in out + capsys.readouterr().out


def test_a_shipped_profile_is_shown_without_being_configured(capsys: pytest.CaptureFixture[str]):
    show("slack", reading=Reading(output="json"))

    shown = json.loads(capsys.readouterr().out)

    assert shown["origin"] == "shipped"
    assert shown["answer"] == {"success_flag": "ok"}
    assert shown["error_map"][0] == {
        "code": "bad_client_secret",
        "verdict": "operator",
        "canonical": "invalid_client",
    }


def test_an_unknown_provider_is_not_found():
    for command in (show, lambda slug, reading: run_test(slug, (), reading, probe=_probe)):
        with pytest.raises(CommandError) as error:
            command("nobody", reading=Reading())
        assert error.value.code == 3


def test_a_shipped_provider_cannot_be_tested_before_it_has_a_client():
    with pytest.raises(CommandError) as error:
        run_test("google", (), Reading(), probe=_probe)

    assert error.value.code == 3


def test_a_wrong_section_is_told_by_each_command(tmp_path: Path):
    reading = Reading(config=config_of(tmp_path, '[providers.google]\nclient_id = "me"\n'))

    for command in (
        lambda: list_command(reading=reading),
        lambda: show("google", reading=reading),
        lambda: run_test("google", (), reading, probe=_probe),
    ):
        with pytest.raises(ProfileError, match=r"^providers\.google\.client_secret_file"):
            command()


def test_a_probe_gets_the_profile_and_its_params_and_its_report_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    seen: list[Any] = []

    async def probe(
        profile: ProviderProfile, config: Config, params: dict[str, str]
    ) -> ProbeReport:
        seen.append((profile.slug, set(config.providers), params))
        return report(endpoint="https://oauth2.googleapis.com/token", clock_skew_s=0.0)

    reading = Reading(config=config_of(tmp_path, GOOGLE), output="json")
    run_test("google", ("tenant=t1", "dc=eu=2"), reading, probe=probe)

    shown = json.loads(capsys.readouterr().out)
    assert seen == [("google", {"google"}, {"tenant": "t1", "dc": "eu=2"})]
    assert (shown["status"], shown["error_code"]) == (400, "invalid_grant")
    assert shown["meaning"].startswith("the client is accepted")


def test_a_bad_report_is_shown_before_the_command_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    async def probe(*_: object) -> ProbeReport:
        return report(outcome="connect_failed", status=None, error_code=None)

    with pytest.raises(CommandError) as error:
        run_test("google", (), Reading(config=config_of(tmp_path, GOOGLE)), probe=probe)

    assert error.value.code == 69
    assert "connect_failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "slug", "code"),
    [
        ({}, "google", 0),
        ({"status": 401, "error_code": "invalid_client"}, "google", 2),
        ({"status": 404, "error_code": None}, "google", 2),
        ({"status": 503, "error_code": None}, "google", 75),
        ({"status": 429, "error_code": None}, "google", 75),
        ({"error_code": "invalid_request"}, "google", 1),
        ({"status": 200, "error_code": "invalid_refresh_token"}, "slack", 0),
        ({"status": 200, "error_code": "bad_client_secret"}, "slack", 2),
        ({"error_code": "190"}, "facebook", 0),
        ({"outcome": "host_not_allowed", "status": None}, "google", 2),
        ({"outcome": "discovery_failed", "status": None}, "google", 69),
        ({"outcome": "timeout", "status": None}, "google", 69),
    ],
)
def test_the_exit_code_tells_what_a_report_means(changes: dict[str, Any], slug: str, code: int):
    assert meaning_of(report(**changes), shipped_profile(slug))[0] == code


def test_the_fields_of_a_plain_profile_are_none():
    rule = ErrorRule(code="x", verdict=FailureClass.USER)

    assert effective_fields(ProviderProfile(slug="bank")) == {}
    assert effective_fields(ProviderProfile(slug="bank", error_map=(rule,))) == {
        "error_map": [{"code": "x", "verdict": "user"}]
    }


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(("secret", "code"), [("", 0), ("wrong", 2)])
async def test_a_real_probe_tells_a_right_client_from_a_wrong_one(
    tmp_path: Path, secret: str, code: int
):
    async with running_fake_provider() as provider:
        made = await probed(tmp_path, provider, secret)

    assert made[0] == code
    assert provider.stats.double_presentations == 0


async def test_a_probe_names_the_value_that_is_missing_and_why_nobody_answers(tmp_path: Path):
    file = tmp_path / "refreshd.toml"
    rest = 'client_id = "me"\nclient_auth = "none"\n'
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        file.write_text(
            f'[providers.shop]\n{rest}token_endpoint = "http://127.0.0.1:{port}/{{shop}}/{{dc}}"\n'
            f'params = {{ dc = "eu" }}\nextra_parameters = {{ v = "{{realm}}" }}\n'
        )
        config = load_config(file, environment={})
        profile = configured_profile("shop", config.providers["shop"])
        values = {"shop": "mine", "realm": "x"}
        missing = meaning_of(await _probe(profile, config, {}), profile)
        refused = meaning_of(await _probe(profile, config, values), profile)

    assert missing[0] == 2
    assert missing[1].endswith("template_value_missing: give --param for shop, realm")
    assert refused == (69, "no answer: connect_failed: Connection refused")


async def probed(folder: Path, provider: FakeProvider, secret: str) -> tuple[int, str]:
    config = load_config(write_config(folder, provider, secret=secret), environment={})
    profile = configured_profile("fake", config.providers["fake"])
    return meaning_of(await _probe(profile, config, {}), profile)
