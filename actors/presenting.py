"""The requests of one attempt at a token endpoint."""

from collections.abc import Awaitable, Callable

from actors.ports import TokenEndpoint
from actors.wish import Route
from domain.connection import ProviderConnection
from domain.credentials import Secret
from domain.exchange import ExchangeRequest, Tokens, Verdict
from domain.oauth_secret import OAuthSecret
from domain.trace import Trace
from domain.verdicts import judge


async def presented(
    secret: OAuthSecret,
    connection: ProviderConnection,
    route: Route,
    *,
    trace: Trace | None = None,
    endpoint: TokenEndpoint,
    departs: Callable[[], Awaitable[bool]],
) -> Tokens | Verdict:
    """Ask, and once more where that is safe: the client was refused, so no token was spent.

    Flights of one client may try its secrets side by side; each tries each of them once.

    Args:
        secret: What holds the token to present.
        connection: Whose it is.
        route: How its requests go.
        trace: That its requests belong to.
        endpoint: The token endpoints.
        departs: Waits until one more request may go out; False: none may, the last answer stands.
    """
    profile, gate = route
    index = gate.secret_index
    token = secret.text(profile.presents)
    assert token is not None
    secrets = max(profile.client_secrets, 1)
    with_scope, secrets_tried = True, 1
    while True:
        exchange = await endpoint.exchange(
            ExchangeRequest(
                profile=profile,
                presented=Secret(token.encode()),
                params=connection.params,
                endpoint_base=connection.endpoint_base,
                secret_index=index % secrets,
                with_scope=with_scope,
                trace=trace,
            )
        )
        outcome = judge(profile, exchange, sent_scope=with_scope and profile.scope is not None)
        if isinstance(outcome, Tokens):
            return outcome
        if outcome.tries_next_secret and secrets_tried < secrets:
            secrets_tried += 1
            if gate.secret_index == index:
                gate.secret_index = (index + 1) % secrets
            index = (index + 1) % secrets
        elif outcome.drops_scope and with_scope:
            with_scope = False
        else:
            return outcome
        gate.needs_another()
        if not await departs():
            return outcome
