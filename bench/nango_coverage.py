"""How many providers can be refreshed by configuration alone?

The measure is NangoHQ/nango's list of providers, which is the largest public one: each of its
OAUTH2 entries is turned into a ``[providers.<slug>]`` section and built by the daemon's own
loader. Where Nango refreshes by code of its own, a section written by hand stands here, or the
reason why none can. The list is read for its structure and not part of this repository:

    git clone --depth 1 https://github.com/NangoHQ/nango
    python -m bench.nango_coverage nango/packages/providers/providers.yaml

It needs PyYAML (``pip install pyyaml``), which nothing else here does.

What it does not measure: whether a provider answers as its entry says. Nothing is sent.
"""

import importlib
import re
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from runtime.provider.endpoint_url import resolved_url
from runtime.provider.profiles import ProfileError, configured_profile

ALONE, NONE, CODE = "configuration alone", "no refreshing there", "needs code"
NAMED, SILENT = "the list names a refresh", "the list is silent: the standard request"

Entry = Mapping[str, Any]
Section = dict[str, Any]

_VARIABLE = re.compile(r"\$\{connectionConfig\.([A-Za-z0-9_.-]+)\}")
_NAME = re.compile(r"\{([A-Za-z][A-Za-z0-9_]*)\}")
_BASES = ("api_domain", "instance_url")
_PLACEHOLDERS = {"client_id": "client", "client_secret_file": "/not/read"}

NO_REFRESH = {
    # From Nango's pages on each, at 2f4c0af (2026-08-21).
    "intercom": "access tokens do not expire",
    "monday": "access tokens do not expire",
    "stackexchange": "access tokens expire and cannot be refreshed",
    "wordpress": "access tokens do not expire",
    "tiktok-ads": "Nango's code has no refresh for it",
    # Widely known of these; no page was looked up.
    "acuity-scheduling": "access tokens do not expire",
    "bitly": "access tokens do not expire",
    "clickup": "access tokens do not expire",
    "eventbrite": "access tokens do not expire",
    "mailchimp": "access tokens do not expire",
    "survey-monkey": "access tokens do not expire",
    "todoist": "access tokens do not expire",
    "vimeo": "access tokens do not expire",
}

NEEDS_CODE = {
    "absorb-lms": "a fresh nonce in each request, and a secret for each connection",
    "agiloft": "a part of the secret under a name of its own",
    "braintree": "a token endpoint that speaks the vendor's own XML",
    "braintree-sandbox": "a token endpoint that speaks the vendor's own XML",
    "bullhorn": "a second request turns the access token into a session",
    "coros": "a success answers without a token: the old one lives on",
    "coros-sandbox": "a success answers without a token: the old one lives on",
    "microsoft-admin": "client credentials: there is no refresh token to present",
    "microsoft-teams-bot": "a second token by client credentials",
    "shopline-oauth": "each request is signed by HMAC over the time",
}

_POST = {"client_auth": "client_secret_post"}
_BASIC = {"client_auth": "client_secret_basic", "basic_encoding": "raw"}
_PUBLIC = {"client_auth": "none"}
_STRIPE = {"client_auth": "client_secret_basic", "basic_encoding": "secret_as_user"}
_META = {"method": "GET", "client_auth": "none", "client_id": "", "presents": "access_token"}
_META_TOKEN = {"token_parameter": "access_token"}
_TIKTOK_PATHS = ("access_token", "refresh_token", "token_type", "scope")
BY_HAND: dict[str, Section] = {
    "clover": _PUBLIC
    | {"body_format": "json", "grant_type": "", "expiry_shape": "epoch_s"}
    | {"answer": {"expiry": "access_token_expiration"}},
    "facebook": _POST
    | {"method": "GET", "presents": "access_token"}
    | {"grant_type": "fb_exchange_token", "token_parameter": "fb_exchange_token"},
    "fanvue": _BASIC,
    "figjam": _POST | {"grant_type": ""},
    "figma": _POST | {"grant_type": ""},
    "followupboss": _BASIC,
    "heygen": _PUBLIC,
    "instagram": _META | _META_TOKEN | {"grant_type": "ig_refresh_token"},
    "jobber": _POST | {"expiry_shape": "none"},
    "mercury": _PUBLIC | {"client_id": ""},
    "one-drive": _POST,  # a second token for SharePoint is a second connection
    "posthog-oauth": _PUBLIC,
    "revolut-business": {
        "client_auth": "private_key_jwt",
        "private_key_file": "/not/read",
        "assertion_issuer": "app.example",
    },
    "sentry-oauth": _POST
    | {"body_format": "json", "expiry_shape": "iso8601"}
    | {"answer": {"access_token": "token", "refresh_token": "refreshToken", "expiry": "expiresAt"}},
    "sharepoint-online": _POST,  # as one-drive
    "slack": _POST | {"answer": {"success_flag": "ok"}},  # a user token is a second connection
    "squareup": _POST | {"expiry_shape": "iso8601", "answer": {"expiry": "expires_at"}},
    "stripe-app": _STRIPE,
    "stripe-app-sandbox": _STRIPE,
    "threads": _META | _META_TOKEN | {"grant_type": "th_refresh_token"},
    "tiktok-accounts": _POST
    | {"body_format": "json"}
    | {"answer": {"expiry": "data.expires_in"} | {name: f"data.{name}" for name in _TIKTOK_PATHS}},
    "tiktok-personal": _POST | {"extra_parameters": {"client_key": "client"}},
    "walmart": {"client_auth": "client_secret_basic"}
    | {"extra_headers": {"WM_QOS.CORRELATION_ID": "{request_id}", "WM_PARTNER.ID": "{seller}"}},
    "workday-oauth": _BASIC | {"expiry_shape": "none"},
}


class Finding(NamedTuple):
    """What became of one entry."""

    slug: str
    group: str
    reason: str
    lists_hosts: bool = False
    """Whether the operator must list the hosts: an entry's whole host is a variable."""


def effective(entries: Mapping[str, Entry], name: str) -> Entry:
    """Return an entry with what it inherits by ``alias``."""
    entry = entries[name]
    if "alias" not in entry:
        return entry
    return {**effective(entries, entry["alias"]), **entry}


def judged(slug: str, entry: Entry) -> Finding:
    """Return whether ``entry`` can be refreshed by configuration alone, and why."""
    if slug in NEEDS_CODE:
        return Finding(slug, CODE, NEEDS_CODE[slug])
    if slug in NO_REFRESH:
        return Finding(slug, NONE, NO_REFRESH[slug])
    section, params, lists_hosts = section_of(slug, entry)
    try:
        profile = configured_profile(slug, section)
    except ProfileError as error:
        return Finding(slug, CODE, f"does not build: {error}")
    endpoint = profile.refresh_endpoint or profile.token_endpoint or ""
    url = resolved_url(endpoint, values=params, allowed_hosts=profile.allowed_hosts)
    if not isinstance(url, str):
        return Finding(slug, CODE, f"its URL does not resolve: {url.code}")
    return Finding(slug, ALONE, NAMED if names_a_refresh(slug, entry) else SILENT, lists_hosts)


def names_a_refresh(slug: str, entry: Entry) -> bool:
    """Return whether anything in the list says that tokens are refreshed there."""
    wanted = f"{entry.get('authorization_params')} {entry.get('default_scopes')}"
    return (
        slug in BY_HAND
        or any(key in entry for key in ("refresh_params", "refresh_url", "refresh_token_params"))
        or re.search(r"offline|refresh_token", wanted) is not None
    )


def section_of(slug: str, entry: Entry) -> tuple[Section, dict[str, str], bool]:
    """Return the section for an entry, sample params, and whether its hosts must be listed."""
    endpoint = template_of(entry["token_url"])
    section: Section = {"profile": "", **_PLACEHOLDERS, "token_endpoint": endpoint}
    if "refresh_url" in entry:
        endpoint = section["refresh_endpoint"] = template_of(entry["refresh_url"])
    params, hosts, lists_hosts = filled(endpoint)
    section["allowed_hosts"] = hosts
    section |= client_of(entry)
    if entry.get("body_format") == "json":
        section["body_format"] = "json"
    if "token_expiration_buffer" in entry:
        section["max_lead_s"] = entry["token_expiration_buffer"]
    base = next((name for name in _BASES if name in entry.get("token_response_metadata", ())), None)
    if base is not None:
        section["answer"] = {"endpoint_base": base}
    section |= parameters_of(entry)
    section |= BY_HAND.get(slug, {})
    if section["client_auth"] in ("none", "private_key_jwt"):
        del section["client_secret_file"]
    return section, params, lists_hosts


def client_of(entry: Entry) -> Section:
    """Return how the client proves itself; Nango encodes one kind of Basic and not the other."""
    if entry.get("authorization_method") == "header":
        return {"client_auth": "client_secret_basic"}
    if entry.get("token_request_auth_method") == "basic":
        return {"client_auth": "client_secret_basic", "basic_encoding": "raw"}
    return _POST


def parameters_of(entry: Entry) -> Section:
    """Return what a refresh sends besides; the parameters of a code exchange if none are named."""
    named = entry.get("refresh_params") or entry.get("refresh_token_params")
    given = dict(named or entry.get("token_params") or {})
    grant_type = given.pop("grant_type", None)
    section: Section = {}
    if named and grant_type not in (None, "refresh_token"):
        section["grant_type"] = grant_type
    if given:
        section["extra_parameters"] = {k: template_of(str(v)) for k, v in given.items()}
    return section


def template_of(text: str) -> str:
    """Return a text of the list as a template of ours; the first of its alternatives."""
    first = text.split("||", maxsplit=1)[0].strip()
    return _VARIABLE.sub(lambda found: "{" + re.sub(r"\W", "_", found[1]) + "}", first)


def filled(endpoint: str) -> tuple[dict[str, str], list[str], bool]:
    """Return sample params for a template, the hosts to allow, and whether one must list them."""
    params = dict.fromkeys(_NAME.findall(endpoint), "sample")
    host = endpoint.split("/")[2]
    if "{" not in host:
        return params, [], False
    suffix = host.rpartition("}")[2]
    if suffix.count(".") > 1 and suffix.startswith("."):
        return params, ["*" + suffix], False
    whole = _NAME.sub("sample", host)
    return params, [whole], True


def report(findings: list[Finding]) -> str:
    """Return the counts, and each entry that needs code with its reason."""
    groups = Counter(finding.group for finding in findings)
    lines = [f"{len(findings)} OAUTH2 entries"]
    for group in (ALONE, NONE, CODE):
        share = 100 * groups[group] / len(findings)
        lines.append(f"{groups[group]:>5}  {share:5.1f} %  {group}")
        reasons = Counter(finding.reason for finding in findings if finding.group == group)
        lines += [f"{count:>12}  {reason}" for reason, count in reasons.most_common()]
    listed = sum(finding.lists_hosts for finding in findings)
    lines.append(f"{listed:>5}  of these the operator lists the hosts for: they are the user's own")
    by_hand = sum(f.slug in BY_HAND and f.group == ALONE for f in findings)
    lines.append(f"{by_hand:>5}  of these Nango refreshes by code of its own, or by a rule for all")
    refreshable = len(findings) - groups[NONE]
    share = 100 * groups[ALONE] / refreshable
    lines.append(f"{share:.1f} % of what can be refreshed is refreshed by configuration alone")
    needing = [finding for finding in findings if finding.group == CODE]
    return "\n".join([*lines, "", *(f"{f.slug}: {f.reason}" for f in needing)])


def main(path: Path) -> None:
    """Print what the list at ``path`` gives."""
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        sys.exit("PyYAML is needed: pip install pyyaml")
    entries: dict[str, Entry] = yaml.safe_load(path.read_text())
    wanted = {name: effective(entries, name) for name in entries}
    print(report([judged(n, e) for n, e in wanted.items() if e.get("auth_mode") == "OAUTH2"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
