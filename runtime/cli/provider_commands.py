"""The command line's view of providers: which there are, what they are, whether they answer."""

import os
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import uvloop
from cyclopts import App, Parameter

from domain.credentials import Secret
from domain.exchange import Answered, Verdict
from domain.profile import FailureClass, ProviderProfile, ReusePolicy
from domain.verdicts import judge
from runtime.cli.asking import (
    EXIT_ERROR,
    EXIT_NOT_FOUND,
    EXIT_TRY_AGAIN,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CommandError,
    Output,
    json_text,
    read_pair,
)
from runtime.cli.tables import show_fields, show_table
from runtime.config import Config, load_config
from runtime.logs import configure_logs
from runtime.provider.profiles import (
    configured_profile,
    load_profiles,
    shipped_profile,
    shipped_slugs,
)
from runtime.provider.token_endpoint import HttpTokenEndpoint, ProbeReport
from runtime.world import SystemClock

CONFIGURED, SHIPPED = "configured", "shipped"
NOT_REACHED = frozenset(
    {
        "answer_too_large",
        "connect_failed",
        "connection_lost",
        "discovery_failed",
        "pool_timeout",
        "proxy_failed",
        "timeout",
        "tls_failed",
    }
)
"""How a probe ends where the provider, and not the configuration, did not answer."""

_SECRET_NAME = re.compile(r"key|secret|token|password|auth|credential", re.IGNORECASE)
_MEANINGS = {
    FailureClass.USER: (0, "the client is accepted; only the token was refused, as it should be"),
    FailureClass.OPERATOR: (EXIT_USAGE, "the configuration is wrong"),
    FailureClass.TRANSIENT: (EXIT_TRY_AGAIN, "the provider cannot say now"),
    FailureClass.AMBIGUOUS: (EXIT_ERROR, "it cannot be told whether the client is accepted"),
}


Prober = Callable[[ProviderProfile, Config, dict[str, str]], Coroutine[Any, Any, ProbeReport]]
"""Makes one request with a token that cannot be valid; the params fill the templates."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """Which configuration is read, and how the result is shown."""

    config: Path | None = None
    "The TOML file; $REFRESHD_CONFIG."
    output: Output = "table"
    "table for people, json for programs, jsonl with one value a line."

    def settings(self) -> Config:
        """Return the configuration."""
        return load_config(self.config, environment=os.environ)

    def show(self, value: Any, text: Callable[[Any], str]) -> None:  # noqa: ANN401 -- any JSON
        """Print a result."""
        print(text(value) if self.output == "table" else json_text(value, self.output))  # noqa: T201 -- the result


provider = App(name="provider", help="Look at the providers, and test one.")
_HERE = Reading()


@provider.command(name="list")
def list_command(*, reading: Reading = _HERE) -> None:
    """List the configured providers and those that can be configured by a client alone."""
    sections = reading.settings().providers
    rows = [
        _row(_effective(slug, sections), CONFIGURED if slug in sections else SHIPPED)
        for slug in sorted({*sections, *shipped_slugs()})
    ]
    reading.show(rows, show_table)


@provider.command
def show(slug: str, *, reading: Reading = _HERE) -> None:
    """Show what a provider's profile sets, beside its defaults; no secrets.

    Parameters
    ----------
    slug
        Its name in the configuration or in the catalogue.
    """
    sections = reading.settings().providers
    origin = CONFIGURED if slug in sections else SHIPPED
    shown = {"slug": slug, "origin": origin, **effective_fields(_effective(slug, sections))}
    reading.show(shown, show_fields)


@provider.command(name="test")
def probe_command(
    slug: str,
    *,
    param: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    reading: Reading = _HERE,
) -> None:
    """Ask a provider with a token that cannot be valid: is the rest right? No grant is touched.

    Exit 0: the client is accepted; 2: the configuration is wrong; 69: no answer; 75: try again;
    1: it cannot be told.

    Parameters
    ----------
    slug
        Its name in the configuration.
    param
        NAME=VALUE for the templates of its profile; may be repeated.
    """
    run_test(slug, param, reading, probe=_probe)


def run_test(slug: str, param: tuple[str, ...], reading: Reading, *, probe: Prober) -> None:
    """Show what ``probe`` reports on a configured provider.

    Raises:
        CommandError: The client is not known to be accepted; its code says why.
        ProfileError: The section is wrong.
    """
    configure_logs(level="error", as_json=False)
    config = reading.settings()
    if slug not in config.providers:
        raise CommandError(f"{slug}: no such provider is configured", EXIT_NOT_FOUND)
    profile = configured_profile(slug, config.providers[slug])
    params = dict(read_pair(text) for text in param)
    report = uvloop.run(probe(profile, config, params))
    code, meaning = meaning_of(report, profile)
    reading.show({**msgspec.to_builtins(report), "meaning": meaning}, show_fields)
    if code:
        raise CommandError(f"{slug}: {meaning}", code)


def meaning_of(report: ProbeReport, profile: ProviderProfile) -> tuple[int, str]:
    """Return the exit code for a report, and a sentence.

    The provider's answer is judged as it would be at a refresh, by its status and code.
    """
    if report.outcome in NOT_REACHED:
        cause = "" if report.detail is None else f": {report.detail}"
        return EXIT_UNAVAILABLE, f"no answer: {report.outcome}{cause}"
    if report.outcome != "answered" or report.status is None:
        missing = "" if report.detail is None else f": give --param for {report.detail}"
        return EXIT_USAGE, f"the configuration does not allow a request: {report.outcome}{missing}"
    body: Any = report.error_code
    for name in reversed(profile.answer.error.split(".")):
        body = {name: body}
    answered = Answered(
        status=report.status,
        body=Secret(msgspec.json.encode(body)),
        sent_at=datetime.fromtimestamp(0, UTC),
    )
    verdict = judge(profile, answered, sent_scope=profile.scope is not None)
    assert isinstance(verdict, Verdict)
    return _MEANINGS[verdict.failure_class]


def effective_fields(profile: ProviderProfile) -> dict[str, Any]:
    """Return each field that is not its default, as JSON; what could be a secret is hidden.

    A profile is not meant to hold one, but a header of somebody's gateway may.
    """
    plain = ProviderProfile(slug=profile.slug)
    fields: dict[str, Any] = {}
    for name in ProviderProfile.__struct_fields__:
        value = getattr(profile, name)
        if name == "slug" or value == getattr(plain, name):
            continue
        if isinstance(value, ReusePolicy):
            fields[name] = str(value)
        elif name == "answer":
            fields[name] = _differing(value, plain.answer)
        elif name in ("extra_headers", "extra_parameters", "params"):
            fields[name] = {key: "***" if _SECRET_NAME.search(key) else value[key] for key in value}
        elif name == "error_map":
            fields[name] = [_differing(rule, None) for rule in value]
        else:
            fields[name] = msgspec.to_builtins(value)
    return fields


def _differing(value: msgspec.Struct, default: msgspec.Struct | None) -> dict[str, Any]:
    """Return the fields that are not those of ``default``, nor None or false."""
    fields = msgspec.to_builtins(value)
    plain = {} if default is None else msgspec.to_builtins(default)
    return {k: v for k, v in fields.items() if v not in (None, False) and v != plain.get(k)}


def _effective(slug: str, sections: Mapping[str, Mapping[str, Any]]) -> ProviderProfile:
    """Return a configured profile, else the shipped one.

    Raises:
        CommandError: There is neither.
        ProfileError: The section is wrong.
    """
    if slug in sections:
        return configured_profile(slug, sections[slug])
    try:
        return shipped_profile(slug)
    except LookupError:
        raise CommandError(f"{slug}: no such provider", EXIT_NOT_FOUND) from None


def _row(profile: ProviderProfile, origin: str) -> dict[str, str]:
    return {
        "slug": profile.slug,
        "origin": origin,
        "client_auth": profile.client_auth.value,
        "reuse_policy": str(profile.reuse_policy),
        "endpoint": profile.refresh_endpoint or profile.token_endpoint or profile.issuer or "-",
    }


async def _probe(profile: ProviderProfile, config: Config, params: dict[str, str]) -> ProbeReport:
    """Make the request with the client's own secret."""
    profiles = load_profiles({profile.slug: config.providers[profile.slug]})
    async with HttpTokenEndpoint(
        profiles.secrets, routes=profiles.route, now=SystemClock().now
    ) as endpoint:
        return await endpoint.probe(profile, params=params)
