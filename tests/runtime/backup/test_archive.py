"""A backup is read whole or not at all, however its bytes arrive."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from domain.connection import ConnectionStatus, ProviderConnection
from domain.credentials import Credentials, CredentialType, Opaque
from domain.record import SCHEMA_VERSION, Record
from runtime.backup.archive import ArchiveError, ArchiveReader, End, Head, Kept, encode

NOW, LATER = datetime(2026, 11, 27, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)
HEAD = Head(id=UUID(int=9), made_at=NOW, made_by="0.2.0", prefix="refreshd.v1")


def kept(number: int = 1) -> Kept:
    connection = ProviderConnection(
        id=UUID(int=number),
        user_id=UUID(int=2),
        provider_id=UUID(int=3),
        provider_slug="schwab",
        status=ConnectionStatus.ACTIVE,
        created_at=NOW,
        updated_at=NOW,
        generation=1,
        credentials=Credentials(
            credential_type=CredentialType.OAUTH2, payload=Opaque(data=b""), expires_at=LATER
        ),
    )
    return Kept(record=Record(connection=connection), secret=b'{"access_token": "canary"}')


TEXT = encode(HEAD) + encode(kept(1)) + encode(kept(2)) + encode(End(connections=2))


def read(text: bytes, piece_bytes: int = 1_000_000) -> list[Kept]:
    reader = ArchiveReader()
    found = [
        one
        for start in range(0, len(text), piece_bytes)
        for one in reader.feed(text[start : start + piece_bytes])
    ]
    assert reader.end() == HEAD
    return found


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 1_000_000])
def test_it_does_not_matter_in_which_pieces_it_comes(piece_bytes: int):
    assert read(TEXT, piece_bytes) == [kept(1), kept(2)]


def test_one_that_is_cut_anywhere_is_none():
    for end in range(len(TEXT)):
        with pytest.raises(ArchiveError):
            read(TEXT[:end])


@pytest.mark.parametrize(
    "text",
    [
        b"hello\n",
        b"{}\n",
        b"\xff\n",
        b"[" * 100_000 + b"\n",
        encode(kept()) + TEXT,
        encode(HEAD) + TEXT,
        TEXT + encode(kept()),
        TEXT + encode(End(connections=2)),
        encode(HEAD) + encode(kept()) + encode(End(connections=2)),
    ],
)
def test_what_is_no_backup_or_lacks_something_is_refused(text: bytes):
    with pytest.raises(ArchiveError) as refused:
        read(text)

    assert "canary" not in str(refused.value)


def test_what_a_later_version_wrote_is_refused_by_name():
    later = msgspec.structs.replace(HEAD, format=2)
    record = msgspec.structs.replace(kept().record, v=SCHEMA_VERSION + 1)
    newer = msgspec.structs.replace(kept(), record=record)

    with pytest.raises(ArchiveError, match="format 2, this version reads 1"):
        read(encode(later))
    with pytest.raises(ArchiveError, match=f"schema {SCHEMA_VERSION + 1}"):
        read(encode(HEAD) + encode(newer))


def test_a_connection_that_breaks_a_law_is_refused():
    connection = msgspec.structs.replace(kept().record.connection, credentials=None)
    broken = Kept(record=Record(connection=connection))

    with pytest.raises(ArchiveError, match="ACTIVE implies credentials"):
        read(encode(HEAD) + encode(broken))


def test_a_secret_does_not_show():
    assert "canary" not in repr(kept())
