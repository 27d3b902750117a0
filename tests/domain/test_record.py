"""What was ever stored can be read for ever, and what cannot be trusted is refused as such."""

import contextlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domain.connection import ConnectionStatus, Ended, ProviderConnection, RefreshIntent, Trouble
from domain.credentials import Credentials, CredentialType, Opaque, Sealed
from domain.decision import ConnectionRef
from domain.profile import FailureClass, RefreshMode
from domain.record import SCHEMA_VERSION, Record, RecordError, decode_record, encode_record
from domain.remembered import Remembered
from domain.result import Failure, FailureCode
from tests.conftest import ROOT
from tests.domain.shapes import CONNECTION_ID, FLYING, NOW, connections, stored

ANSWERS = (
    Remembered(message_id=b"\x01" * 16, connection=ConnectionRef(CONNECTION_ID)),
    Remembered(message_id=b"\x02" * 16),
    Remembered(
        message_id=b"\x03" * 16,
        failure=Failure(code=FailureCode.NOT_ACTIVE, message="no", needs_user_action=True),
    ),
)
FIXTURES = ROOT / "tests" / "fixtures"
NAIVE = "2026-06-01T00:00:00"
NESTED_DEEP = b"\x82\xa1v\x01\xa1z" + b"\x91" * 100_000 + b"\x01"


def packed(**changes: object) -> bytes:
    """Return the record of an ACTIVE connection with ``changes`` to the connection's fields."""
    fields = unpacked(encode_record(record_of(stored(ConnectionStatus.ACTIVE))))
    fields["connection"] |= changes
    return msgspec.msgpack.encode(fields)


def record_of(connection: ProviderConnection) -> Record:
    """Return a record of ``connection``."""
    return Record(seq=7, connection=connection, answers=ANSWERS)


def unpacked(data: bytes) -> dict[str, Any]:
    """Return the bare fields of a record."""
    return msgspec.msgpack.decode(data)


def at(*parts: int) -> datetime:
    """Return a time in UTC."""
    return datetime(*parts, tzinfo=UTC)


COMMON: dict[str, Any] = {
    "id": UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    "user_id": UUID("01890a5d-ac96-7a11-8000-00000000000a"),
    "provider_id": UUID("01890a5d-ac96-7b22-8000-00000000000b"),
    "provider_slug": "schwab",
    "created_at": at(2026, 1, 2, 3, 4, 5, 678901),
    "updated_at": at(2026, 2, 3, 4, 5, 6, 789012),
    "generation": 0,
    "credentials": None,
    "alias": None,
    "params": None,
    "connected_at": None,
    "last_sync_at": None,
}
V1_RECORDS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "active_sealed": (
        b"\x01" * 16,
        {
            "status": ConnectionStatus.ACTIVE,
            "generation": 7,
            "alias": "Altersvorsorge €",
            "params": {"subdomain": "acme", "dc": "eu1"},
            "connected_at": at(2026, 1, 2, 3, 4, 6),
            "last_sync_at": at(2026, 2, 1),
            "credentials": Credentials(
                credential_type=CredentialType.OAUTH2,
                payload=Sealed(
                    key_id="k-2026",
                    nonce=bytes(range(12)),
                    ciphertext=bytes(range(200, 256)),
                ),
                expires_at=at(2026, 2, 3, 4, 35, 6),
            ),
        },
    ),
    "disconnected": (
        b"\x02" * 16,
        {
            "status": ConnectionStatus.DISCONNECTED,
            "generation": 3,
            "connected_at": at(2026, 1, 2, 3, 4, 6),
        },
    ),
    "pending": (
        b"\x03" * 16,
        {"status": ConnectionStatus.PENDING, "updated_at": at(2026, 1, 2, 3, 4, 5, 678901)},
    ),
    "expired_opaque": (
        b"\x04" * 16,
        {
            "status": ConnectionStatus.EXPIRED,
            "generation": 1,
            "connected_at": at(2026, 1, 2, 3, 4, 6),
            "credentials": Credentials(
                credential_type=CredentialType.API_KEY,
                payload=Opaque(data=b"\x00caller sealed\xff"),
            ),
        },
    ),
}


V2_RECORDS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "refreshing": (
        b"\x05" * 16,
        {
            "status": ConnectionStatus.ACTIVE,
            "generation": 9,
            "connected_at": at(2026, 1, 2, 3, 4, 6),
            "credentials": Credentials(
                credential_type=CredentialType.OAUTH2,
                payload=Sealed(
                    key_id="k-2026", nonce=bytes(range(12)), ciphertext=bytes(range(200, 256))
                ),
                expires_at=at(2026, 2, 3, 4, 35, 6),
                issued_at=at(2026, 2, 3, 4, 5, 6, 789012),
                client_id="client-é",
                notes=("expiry_unreadable", "clock_skew"),
            ),
            "intent": RefreshIntent(
                attempt_id=UUID("01890a5d-ac96-7c33-8000-00000000000c"),
                generation=9,
                owner="d-0a1b2c",
                started_at=at(2026, 2, 3, 4, 34, 5, 6),
                deadline_at=at(2026, 2, 3, 4, 34, 40, 6),
            ),
            "doubted_at": at(2026, 2, 3, 4, 33),
            "trouble": Trouble(
                failure_class=FailureClass.AMBIGUOUS,
                code="timeout",
                provider_code="sys_busy",
                reason="No whole answer came",
                at=at(2026, 2, 3, 4, 33, 30),
                failures=4,
                ambiguous=2,
                retry_at=at(2026, 2, 3, 4, 34, 0, 500000),
            ),
            "granted_at": at(2026, 1, 2, 3, 4, 6),
            "grant_expires_at": at(2026, 7, 1),
            "endpoint_base": "https://eu.example.com",
        },
    ),
    "dead": (
        b"\x06" * 16,
        {
            "status": ConnectionStatus.EXPIRED,
            "generation": 1,
            "credentials": Credentials(
                credential_type=CredentialType.LINK_TOKEN, payload=Opaque(data=b"\x00\xff")
            ),
            "trouble": Trouble(
                failure_class=FailureClass.USER,
                code="invalid_grant",
                reason="The grant is over",
                at=at(2026, 2, 3, 4, 33, 30),
            ),
        },
    ),
}


def held(kind: CredentialType, **more: Any) -> Credentials:
    return Credentials(credential_type=kind, payload=Opaque(data=b"\x00\xff"), **more)


def of_v3(credentials: Credentials, **more: Any) -> tuple[bytes, dict[str, Any]]:
    fields = {"status": ConnectionStatus.ACTIVE, "generation": 2, "credentials": credentials}
    return b"", fields | more


V3_RECORDS = {
    "answered": of_v3(held(CredentialType.API_KEY), generation=3),
    "narrowed": of_v3(held(CredentialType.OAUTH2, notes=("scope_narrowed",), scope="read write")),
    "warned": of_v3(
        held(CredentialType.OAUTH2),
        generation=4,
        grant_expires_at=at(2026, 2, 10),
        grant_slides=False,
        warned_lead_s=604_800,
        refresh=RefreshMode.ON_DEMAND,
    ),
    "ended": of_v3(
        held(CredentialType.OAUTH2),
        status=ConnectionStatus.REVOKED,
        ended=Ended(at=at(2026, 2, 3, 4, 5, 6, 789012), reason="their user asked us to"),
    ),
}
FORMER = {1: V1_RECORDS, 2: V2_RECORDS, 3: V3_RECORDS}


@pytest.mark.parametrize(
    ("version", "name"), [(version, name) for version in FORMER for name in FORMER[version]]
)
def test_a_record_of_any_version_decodes_for_ever(version: int, name: str) -> None:
    _, fields = FORMER[version][name]

    record = decode_record((FIXTURES / f"record_v{version}_{name}.msgpack").read_bytes())

    has_ledger = version >= 3
    assert (record.v, record.seq) == (version, 41 if has_ledger else 0)
    assert record.answers == (ANSWERS if has_ledger else ())
    # Fields that later versions add are free to have any default.
    for field, value in (COMMON | fields).items():
        assert getattr(record.connection, field) == value, field


def test_every_version_up_to_this_one_has_fixtures() -> None:
    assert set(FORMER) == set(range(1, SCHEMA_VERSION + 1))


@given(connections(troubled=True), st.integers(0, 2**63))
def test_every_connection_comes_back_as_it_was_stored(
    connection: ProviderConnection, seq: int
) -> None:
    record = Record(seq=seq, connection=connection, answers=ANSWERS)

    data = encode_record(record)

    assert decode_record(data) == record
    assert encode_record(decode_record(data)) == data


@given(connections(troubled=True))
def test_equal_records_have_equal_bytes(connection: ProviderConnection) -> None:
    twin = msgspec.convert(msgspec.structs.asdict(connection), ProviderConnection)

    assert encode_record(record_of(twin)) == encode_record(record_of(connection))


def test_a_record_carries_its_schema_version() -> None:
    data = encode_record(record_of(stored(ConnectionStatus.ACTIVE)))

    assert unpacked(data)["v"] == SCHEMA_VERSION


def test_ids_are_stored_as_sixteen_bytes() -> None:
    data = encode_record(record_of(stored(ConnectionStatus.ACTIVE)))

    assert unpacked(data)["connection"]["id"] == CONNECTION_ID.bytes


def test_fields_of_a_later_version_are_ignored() -> None:
    fields = unpacked(packed(mood="sunny"))
    fields["outbox"] = [{"id": b"x"}]

    record = decode_record(msgspec.msgpack.encode(fields))

    assert record == record_of(stored(ConnectionStatus.ACTIVE))


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 2**63])
def test_a_newer_schema_is_refused_whatever_it_looks_like(version: int) -> None:
    good = unpacked(packed()) | {"v": version}
    for value in ({"v": version}, {"v": version, "connection": "of another shape"}, good):
        with pytest.raises(RecordError, match=f"schema {version}"):
            decode_record(msgspec.msgpack.encode(value))


@given(st.binary(max_size=400))
@example(b"")
@example(b"\x81\xa1v\x01")
@example(NESTED_DEEP)
@example(packed().replace(b"\xa6schwab", b"\xa6schw\xff\xfe"))
def test_garbage_is_refused_as_no_record(data: bytes) -> None:
    with pytest.raises(RecordError):
        decode_record(data)


@given(st.data())
def test_a_damaged_record_is_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    record = bytearray(packed())
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    for damaged in (bytes(record), bytes(record[:cut])):
        with contextlib.suppress(RecordError):
            decode_record(damaged)


def test_an_alias_may_be_as_long_as_it_may() -> None:
    assert decode_record(packed(alias="x" * 100)).connection.alias == "x" * 100


@pytest.mark.parametrize(
    ("law", "changes"),
    [
        ("ACTIVE implies credentials", {"credentials": None}),
        ("DISCONNECTED implies no credentials", {"status": "disconnected"}),
        ("generation counts the credentials", {"generation": 0}),
        ("generation counts the credentials", {"status": "expired", "generation": -1}),
        ("updated_at never goes back", {"updated_at": "2020-01-01T00:00:00Z"}),
        ("provider_slug is 1-50 of [a-z0-9_-]", {"provider_slug": "Acme"}),
        ("alias is at most 100 characters", {"alias": "x" * 101}),
        ("times are timezone-aware UTC", {"connected_at": "2026-01-01T00:00:00"}),
        ("times are timezone-aware UTC", {"connected_at": "2026-01-01T00:00:00+02:00"}),
        ("times are timezone-aware UTC", {"last_sync_at": "2026-01-01T00:00:00"}),
        ("times are timezone-aware UTC", {"updated_at": "2027-01-01T00:00:00+02:00"}),
    ],
)
def test_a_record_that_breaks_a_law_is_refused(law: str, changes: dict[str, object]) -> None:
    with pytest.raises(RecordError) as refused:
        decode_record(packed(**changes))

    assert str(refused.value) == f"record breaks an invariant: {law}"


@pytest.mark.parametrize(
    ("law", "changes"),
    [
        ("only an ACTIVE connection is being refreshed", {"status": "expired"}),
        ("an intent presents the present credentials", {"generation": 2}),
        ("times are timezone-aware UTC", {"doubted_at": NAIVE}),
        ("times are timezone-aware UTC", {"granted_at": NAIVE}),
        ("times are timezone-aware UTC", {"grant_expires_at": NAIVE}),
        ("times are timezone-aware UTC", {"intent": {"started_at": NAIVE}}),
        ("times are timezone-aware UTC", {"intent": {"deadline_at": NAIVE}}),
        ("times are timezone-aware UTC", {"trouble": {"at": NAIVE}}),
        ("times are timezone-aware UTC", {"trouble": {"retry_at": NAIVE}}),
        ("times are timezone-aware UTC", {"credentials": {"issued_at": NAIVE}}),
        ("times are timezone-aware UTC", {"credentials": {"redated_at": NAIVE}}),
    ],
)
def test_a_record_that_breaks_a_law_of_refreshing_is_refused(
    law: str, changes: dict[str, Any]
) -> None:
    trouble = Trouble(failure_class=FailureClass.USER, code="c", reason="r", at=NOW)
    fields = unpacked(encode_record(record_of(msgspec.structs.replace(FLYING, trouble=trouble))))
    assert decode_record(msgspec.msgpack.encode(fields)).connection.trouble == trouble
    stored_fields = fields["connection"]
    for name, change in changes.items():
        is_part = isinstance(change, dict)
        stored_fields[name] = stored_fields[name] | change if is_part else change

    with pytest.raises(RecordError) as refused:
        decode_record(msgspec.msgpack.encode(fields))

    assert str(refused.value) == f"record breaks an invariant: {law}"


def test_credentials_that_lapse_at_a_naive_time_are_refused() -> None:
    credentials = unpacked(packed())["connection"]["credentials"]

    with pytest.raises(RecordError, match="times are timezone-aware UTC"):
        decode_record(packed(credentials=credentials | {"expires_at": "2026-01-01T00:00:00"}))


@pytest.mark.parametrize("field", ["created_at", "updated_at"])
def test_one_naive_time_of_the_two_is_refused(field: str) -> None:
    with pytest.raises(RecordError, match="times are timezone-aware UTC"):
        decode_record(packed(**{field: "2026-06-01T00:00:00"}))


def test_an_alias_over_its_length_is_refused() -> None:
    with pytest.raises(RecordError, match="alias"):
        decode_record(packed(alias="x" * 101))


@pytest.mark.parametrize("slug", ["", "a.b", "*", "A", "x" * 51, "a\n"])
def test_a_slug_that_is_none_is_refused(slug: str) -> None:
    with pytest.raises(RecordError, match="provider_slug"):
        decode_record(packed(provider_slug=slug))


@pytest.mark.parametrize("changes", [{"alias": 5}, {"status": "canary"}, {"id": "canary"}])
def test_the_refusal_quotes_nothing_that_is_stored(changes: dict[str, object]) -> None:
    with pytest.raises(RecordError) as refused:
        decode_record(packed(**changes))

    assert str(refused.value) == "value is not a connection record"
