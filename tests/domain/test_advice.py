"""What is to be done about a connection is said with the command that does it."""

import msgspec
import pytest

from domain.advice import Advice, Who, advice, mend_of
from domain.connection import ConnectionStatus, ProviderConnection, Trouble
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
