"""A token endpoint's answer, read: tokens, or what the provider said instead.

The content decides what a body is, not its content type (PROVIDERS.md quirk 14), and no body
makes this raise. Tokens come first: whatever else is odd about an answer that holds them is
noted, and survived (quirk 4). Fields are taken from the profile's paths and nowhere else
(quirk 16). What is read here may hold secrets and the provider's free text, so it never shows.
"""

import math
import re
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, UnsetType

from domain.credentials import Secret
from domain.exchange import Answered, Tokens
from domain.expiry import (
    SKEW_S_MIN,
    clock_offset_s,
    grant_lifetime_s,
    jwt_lifetime_s,
    lifetime_s,
    moment,
    number,
)
from domain.profile import ProviderProfile

DEPTH_MAX = 64
"""How deep a malformed body is followed."""
DESCRIPTION_CHARS_MAX = 4096
SUB_CODES_MAX = 16

Tree = dict[str, Any] | list[Any]

_UTF8_MARK = b"\xef\xbb\xbf"
_UNREADABLE_CHAR = "\ufffd"
_TOKEN = re.compile(r'\s*+(?:("(?:[^"\\]|\\.)*+")|([{}\[\]:,])|([^\s{}\[\]:,"]++))', re.DOTALL)
_NO = (False, "false", "0")  # False is 0, too


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An answer without usable tokens. Never shows."""

    has_error: bool = False
    """Whether it says that it is an error, in the place that the profile names."""
    code: str | None = None
    """The provider's error code as it came, if it is a text or a whole number."""
    description: str | None = None
    sub_codes: tuple[str, ...] = ()
    """The finer codes beside it: ``AADSTS<n>`` of each ``error_codes``, ``suberror`` (both
    Microsoft's), ``error_subtype`` (Google's)."""
    is_page: bool = False
    """Whether it is empty or HTML: no token endpoint wrote it (quirk 35)."""
    refresh_token: Secret | None = None
    """The new one of a success that holds no access token: the old one is spent."""

    def __repr__(self) -> str:
        """Show nothing of it."""
        return "Refusal(***)"


class _Body(NamedTuple):
    """A body, read as far as it goes."""

    tree: Tree
    is_malformed: bool = False
    is_page: bool = False
    """Whether it is no more than a page."""
    is_whole: bool = True
    """Whether its end came."""


def read_answer(
    profile: ProviderProfile, answered: Answered, *, is_cut: bool = False
) -> Tokens | Refusal:
    """Return the tokens that an answer holds, or what it says instead.

    It is a success if the status is 2xx, there is no error, and there is an access token
    (quirk 13); or if there is an access token and a refresh token whatever else it says, for
    the provider may have ended the old ones (quirk 37; note ``tokens_in_error``).

    A value is taken only if it is whole: a JSON text that its quotes close, a form's field with
    another behind it. Where a new refresh token may have been meant and cannot be read, the
    old one is in doubt (note ``refresh_token_unread``). A success with a refresh token alone is
    no success, but that token is not lost.

    Args:
        profile: The provider's.
        answered: The answer.
        is_cut: Whether its body broke off; a JSON object that is closed is whole all the same.

    Source:
        RFC 6749 sections 5.1, 5.2 and 6; PROVIDERS.md section 2.
    """
    body = _parsed(answered.body.reveal(), is_cut=is_cut)
    refusal = _refusal(profile, body.tree, is_page=body.is_page)
    access_token = _credential(at(body.tree, profile.answer.access_token))
    is_success = 200 <= answered.status < 300 and not refusal.has_error  # noqa: PLR2004 -- 2xx
    told = at(body.tree, profile.answer.refresh_token)
    refresh_token = _credential(told)
    if access_token is None:
        if refresh_token is None or not is_success or profile.presents != "refresh_token":
            return refusal
        return msgspec.structs.replace(refusal, refresh_token=Secret(refresh_token.encode()))
    if not is_success and refresh_token is None:
        return refusal
    notes = ["tokens_in_error"] * (not is_success) + ["answer_malformed"] * body.is_malformed
    is_unread = refresh_token is None and (not body.is_whole or not _is_nothing(told))
    notes += ["refresh_token_unread"] * is_unread
    tokens = _tokens(profile, answered, body.tree, access_token, notes)
    return msgspec.structs.replace(tokens, replaces_unread=is_unread)


def at(tree: object, path: str) -> object:
    """Return what stands at a dotted path, or None; a number names an array's element."""
    for name in path.split("."):
        if isinstance(tree, dict):
            tree = tree.get(name)
        elif isinstance(tree, list) and re.fullmatch(r"\d{1,4}", name, re.ASCII):
            tree = tree[int(name)] if int(name) < len(tree) else None
        else:
            return None
    return tree


def _tokens(
    profile: ProviderProfile,
    answered: Answered,
    tree: Tree,
    access_token: str,
    notes: list[str],
) -> Tokens:
    paths, sent_at = profile.answer, answered.sent_at
    received_at = answered.received_at or sent_at
    offset_s = clock_offset_s(answered.date, sent_at=sent_at, received_at=received_at)
    if abs(offset_s) > SKEW_S_MIN:
        notes.append("clock_skew")
    provider_now_s = sent_at.timestamp() + offset_s
    ends_s, note = lifetime_s(at(tree, paths.expiry), profile, provider_now_s=provider_now_s)
    if note is not None:
        notes.append(note)
    if profile.expiry_from_jwt:
        bound_s = jwt_lifetime_s(access_token, provider_now_s=provider_now_s)
        ends_s = ends_s if bound_s is None else min(ends_s, bound_s)
    scope = _scope(at(tree, paths.scope))
    if _is_narrower(scope, profile.scope):
        notes.append("scope_narrowed")
    return Tokens(
        access_token=access_token,
        refresh_token=_credential(at(tree, paths.refresh_token)),
        token_type=_text(at(tree, paths.token_type)),
        scope=scope,
        expires_at=moment(sent_at, ends_s),
        grant_expires_at=_grant_expires_at(profile, tree, sent_at, offset_s, notes),
        endpoint_base=_text(at(tree, paths.endpoint_base)) if paths.endpoint_base else None,
        notes=tuple(notes),
    )


def _grant_expires_at(
    profile: ProviderProfile, tree: Tree, sent_at: datetime, offset_s: float, notes: list[str]
) -> datetime | UnsetType | None:
    """Count by the clock that is ahead, ours or the provider's: too late an end costs a request."""
    path = profile.answer.refresh_token_expiry
    value = at(tree, path) if path else None
    after_s = grant_lifetime_s(value)
    if after_s is None:
        notes += ["grant_expiry_unreadable"] * (value is not None and number(value) is None)
        return UNSET
    return None if math.isinf(after_s) else moment(sent_at, after_s + max(offset_s, 0.0))


def _refusal(profile: ProviderProfile, tree: Tree, *, is_page: bool) -> Refusal:
    paths = profile.answer
    error, flag = at(tree, paths.error), None
    if paths.success_flag is not None:
        flag = at(tree, paths.success_flag)
    is_flagged = isinstance(flag, bool | int | str) and _folded(flag) in _NO
    description = _text(at(tree, paths.error_description))
    return Refusal(
        has_error=bool(error) or is_flagged,
        code=_code(error),
        description=description[:DESCRIPTION_CHARS_MAX] if description else None,
        sub_codes=_sub_codes(tree),
        is_page=is_page,
    )


def _sub_codes(tree: Tree) -> tuple[str, ...]:
    numbers = at(tree, "error_codes")
    listed = numbers[:SUB_CODES_MAX] if isinstance(numbers, list) else []
    codes = [f"AADSTS{code}" for code in listed if type(code) is int and 0 < code < 10**9]
    codes += [code for name in ("suberror", "error_subtype") if (code := _text(at(tree, name)))]
    return tuple(codes)


def _folded(value: bool | int | str) -> bool | int | str:  # noqa: FBT001 -- an answer's value
    return value.strip().lower() if isinstance(value, str) else value


def _code(error: object) -> str | None:
    if type(error) is int and abs(error) < 10**18:
        return str(error) if error else None
    return _text(error)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", _UNREADABLE_CHAR) else None


def _is_nothing(value: object) -> bool:
    """Whether a field says that there is no value (quirk 1); one that cannot be read does not."""
    return not (value.strip() if isinstance(value, str) else value)


def _credential(value: object) -> str | None:
    """Return a token; None for what could not be presented: blank, or decoded with a loss."""
    text = _text(value)
    return text if text and text.strip() and _UNREADABLE_CHAR not in text else None


def _scope(value: object) -> str | None:
    """Return the scope as RFC 6749 section 3.3 writes it; some answer with an array."""
    if isinstance(value, list):
        names = [name for name in value if isinstance(name, str)]
        return " ".join(names) or None
    return _text(value)


def _is_narrower(scope: str | None, wanted: str | None) -> bool:
    """Whether what was asked for was not all given; names may also stand between commas."""
    if scope is None or wanted is None:
        return False
    return not set(wanted.split()) <= set(scope.replace(",", " ").split())


def _parsed(body: bytes, *, is_cut: bool) -> _Body:
    """Return what a body says, in whatever form."""
    text = body.removeprefix(_UTF8_MARK).strip()
    if not text or text.startswith(b"<"):
        return _Body({}, is_page=True)
    if not text.startswith((b"{", b"[")):
        return _Body(_form(text.rpartition(b"&")[0] if is_cut else text), is_whole=not is_cut)
    try:
        return _Body(msgspec.json.decode(text))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        tree, is_whole = _as_far_as_it_goes(text.decode(errors="replace"))
        return _Body(tree, is_malformed=True, is_whole=is_whole)


def _form(text: bytes) -> Tree:
    """Read ``name=value`` pairs; anything else gives names that no path names."""
    return dict(parse_qsl(text.decode(errors="replace")))


def _as_far_as_it_goes(text: str) -> tuple[Tree, bool]:
    """Return what a JSON text that is not well-formed says up to where it breaks.

    A value that cannot be read is none, so that one bad field, or a broken end, does not
    lose the tokens before it (quirk 4). A text or a number that may be cut off is not read.

    Returns:
        The fields, and whether the text's own end was reached.
    """
    root: Tree = [] if text.startswith("[") else {}
    open_trees, key, position = [root], None, 1
    while open_trees and (found := _TOKEN.match(text, position)) is not None:
        position, top = found.end(), open_trees[-1]
        string, mark, bare = found.groups()
        if mark in (":", ",") or (bare and position == len(text)):
            continue
        if mark in ("}", "]"):
            if isinstance(top, dict) != (mark == "}"):
                break
            open_trees.pop()
        elif isinstance(top, dict) and key is None:
            if string is None:
                break
            key = _string(string)
        else:
            value = _opened(mark) if mark else _string(string) if string else _bare(bare)
            if isinstance(top, dict):
                top[key or ""] = value
            else:
                top.append(value)
            key = None
            if isinstance(value, dict | list):
                if len(open_trees) >= DEPTH_MAX:
                    break
                open_trees.append(value)
    return root, not open_trees


def _opened(mark: str) -> Tree:
    return {} if mark == "{" else []


def _string(text: str) -> str:
    """Return a JSON text; what cannot be read is something all the same, and no text of ours."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError):
        return _UNREADABLE_CHAR


def _bare(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError):
        return number(text)
