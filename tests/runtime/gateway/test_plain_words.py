"""What is wrong with a field is said as whoever wrote it would, not as the decoder does."""

from typing import Any

import pytest

from runtime.gateway.wire import MalformedError
from tests.fixtures.wire_bodies import CONNECT, OAUTH2, body_of, read

TIME = "RFC 3339 with a time zone is wanted, as 2030-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"credentials": OAUTH2 | {"expires_at": 1790000000.5}},
            f"{TIME}, not `float` - at `$.credentials.expires_at`",
        ),
        (
            {"credentials": OAUTH2 | {"expires_at": "1790000000"}},
            f"{TIME} - at `$.credentials.expires_at`",
        ),
        (
            {"granted_at": "2030-01-01T00:00:00"},
            f"{TIME} - at `$.granted_at`",
        ),
        (
            {"provider_slug": "A b"},
            "1-50 of a-z, 0-9, _ and - are wanted - at `$.provider_slug`",
        ),
        ({"refresh": "now"}, "proactive or on_demand is wanted - at `$.refresh`"),
        (
            {"params": {"a b": "c"}},
            "a name of 1-64 of A-Z, a-z, 0-9, _, . and - is wanted - at `key` in `$.params`",
        ),
    ],
)
def test_what_is_wanted_is_said_in_words(body: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError) as refused:
        read("connect", body_of(CONNECT, **body))

    assert str(refused.value) == message
