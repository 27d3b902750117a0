"""Why a body was not read, in words for whoever wrote it: msgspec's name types and expressions."""

import re

from domain.profile import RefreshMode
from runtime.gateway.replies import printable

_TIME_WANTED = "RFC 3339 with a time zone is wanted, as 2030-01-01T00:00:00Z"
_REGEX = "Expected `str` matching regex .*"
_IN_WORDS = (
    (r"Expected `datetime( \| null)?`, got", f"{_TIME_WANTED}, not"),
    (
        r"Invalid RFC3339 encoded datetime|Expected `datetime` with a timezone component",
        _TIME_WANTED,
    ),
    (rf"{_REGEX}(?= - at `\$\.provider_slug`)", "1-50 of a-z, 0-9, _ and - are wanted"),
    (rf"{_REGEX}(?= - at `\$\.refresh`)", f"{' or '.join(RefreshMode)} is wanted"),
    (rf"{_REGEX}(?= - at `key` in)", "a name of 1-64 of A-Z, a-z, 0-9, _, . and - is wanted"),
)


def explained(error: Exception) -> str:
    """Return a decoding error's text, which names the field and quotes no value.

    The one thing of the caller's in it is the name of an unknown field, which shows only where it
    looks like one.
    """
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8"
    text = str(error)
    plain = r"Object contains unknown field `[A-Za-z_]{1,32}`( - at `\$\.credentials`)?"
    if "contains unknown field" in text and not re.fullmatch(plain, text):
        return "Object contains an unknown field"
    for technical, words in _IN_WORDS:
        text = re.sub(rf"^(?:{technical})", words, text)
    return printable(text)
