"""A request to a provider names the trace that it belongs to, and no other."""

import httpx2
import pytest

from domain.credentials import Secret
from domain.exchange import ExchangeRequest
from domain.profile import ProviderProfile
from domain.trace import Trace
from runtime.provider.client_auth import ClientProof
from runtime.provider.token_request import token_request

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("trace", "headers"),
    [
        (None, {}),
        (Trace(PARENT), {"traceparent": PARENT}),
        (Trace(PARENT, "a=1"), {"traceparent": PARENT, "tracestate": "a=1"}),
    ],
)
def test_a_request_has_the_headers_of_its_trace(
    trace: Trace | None, headers: dict[str, str]
) -> None:
    asked = ExchangeRequest(
        profile=ProviderProfile(slug="fake"), presented=Secret(b"rt"), trace=trace
    )

    request = token_request(asked, ClientProof(), endpoint="https://provider.example/token")

    assert isinstance(request, httpx2.Request)
    assert {k: v for k, v in request.headers.items() if k.startswith("trace")} == headers
