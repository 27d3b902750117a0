"""What is to be done about a connection is said with the command that does it."""

from datetime import timedelta

import msgspec
import pytest

from domain.advice import Advice, Who, advice, mend_of
from domain.connection import ConnectionStatus, ProviderConnection, Trouble
from domain.explanation import explained
from domain.profile import FailureClass, ProviderProfile
from domain.verdict_table import CODES, OF_ONE_CONNECTION
from tests.domain.shapes import NOW, SLUG, stored


def told(connection: ProviderConnection) -> Advice:
    return advice(connection, ProviderProfile(slug=SLUG), None, now=NOW)


def at_fault(code: str) -> ProviderConnection:
    """Return an ACTIVE connection whose refresh failed by the configuration."""
    why = Trouble(failure_class=FailureClass.OPERATOR, code=code, reason="The reason", at=NOW)
    return msgspec.structs.replace(stored(ConnectionStatus.ACTIVE), trouble=why)


@pytest.mark.parametrize(
    "status", [status for status in ConnectionStatus if status is not ConnectionStatus.ACTIVE]
)
def test_what_is_not_active_gets_new_credentials_by_a_connect_to_its_id(status: ConnectionStatus):
    connection = stored(status)

    text = told(connection).text

    is_final = status is ConnectionStatus.DISCONNECTED
    assert (f"`refreshd connect --connection-id {connection.id} " in text) != is_final
    assert "refreshd refresh" not in text


OPERATORS = sorted(
    {verdict.code for verdict in CODES.values() if verdict.failure_class is FailureClass.OPERATOR}
    | OF_ONE_CONNECTION
    | {"unauthorized", "wrong_endpoint", "client_changed", "cannot_unseal", "issuer_mismatch"}
)


@pytest.mark.parametrize("code", OPERATORS)
def test_each_failure_of_the_configuration_has_its_mend(code: str):
    connection = at_fault(code)

    found = told(connection)

    assert found.who is Who.OPERATOR
    assert found.text == mend_of(code, connection)
    assert "{" not in found.text


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client", "some_other_code"])
def test_a_mend_of_the_configuration_is_said_with_what_takes_and_tries_it(code: str):
    connection = at_fault(code)

    text = told(connection).text

    assert f"`refreshd provider test {SLUG}` tries it, a reload (SIGHUP) takes it" in text
    assert f"`refreshd token {connection.id} --force` refreshes" in text


@pytest.mark.parametrize(
    ("code", "failure_class", "taken_s", "is_said"),
    [
        ("invalid_client", FailureClass.OPERATOR, 20, True),
        ("invalid_client", FailureClass.OPERATOR, -20, False),
        ("invalid_client", FailureClass.OPERATOR, None, False),
        ("cannot_unseal", FailureClass.OPERATOR, 20, False),
        ("server_error", FailureClass.TRANSIENT, 20, False),
    ],
)
def test_a_configuration_that_was_changed_since_is_not_blamed_before_the_next_try(
    code: str, failure_class: FailureClass, taken_s: int | None, *, is_said: bool
):
    connection = at_fault(code)
    assert connection.trouble is not None
    trouble = msgspec.structs.replace(connection.trouble, failure_class=failure_class)
    connection = msgspec.structs.replace(connection, trouble=trouble)
    taken_at = None if taken_s is None else NOW + timedelta(seconds=taken_s)
    now = NOW + timedelta(seconds=50)

    profile = ProviderProfile(slug=SLUG)
    found = explained(connection, profile, None, now=now, taken_at=taken_at)

    since = f"[providers.{SLUG}] was taken anew after that, 2026-03-01T13:00:20Z (30 s ago): "
    assert any(text.startswith(since) for text in found.because) == is_said
    prefix = "if the next try does not show that it is mended: "
    assert found.advice.text.startswith(prefix) == is_said
    if is_said:
        assert found.advice.text == prefix + mend_of(code, connection)
