"""A sealed secret opens under its key, for its connection and its generation, and never else."""

import base64
import json
from pathlib import Path
from uuid import UUID

import anyio
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.credentials import Secret
from runtime.ledger.sealing import Keyring, KeyringError, UnsealError, open_keyring

A_KEY, B_KEY = bytes(range(32)), bytes(range(32, 64))
ID = UUID(int=7)
RING = Keyring(primary="a", keys={"a": A_KEY})

secrets = st.binary(max_size=300).map(Secret)
ids = st.uuids()
generations = st.integers(min_value=1, max_value=2**63)
keys = st.binary(min_size=32, max_size=32)


@given(secrets, ids, generations)
def test_what_was_sealed_opens(secret: Secret, connection_id: UUID, generation: int):
    sealed = RING.seal(secret, connection_id=connection_id, generation=generation)

    opened = RING.unseal(sealed, connection_id=connection_id, generation=generation)

    assert opened.reveal() == secret.reveal()
    assert sealed.key_id == "a"


@given(st.binary(min_size=8, max_size=300))
def test_a_ciphertext_does_not_hold_its_plaintext(plaintext: bytes):
    sealed = RING.seal(Secret(plaintext), connection_id=ID, generation=1)

    assert plaintext not in sealed.ciphertext
    assert len(sealed.ciphertext) == len(plaintext) + 16


@given(secrets, ids, ids)
def test_it_does_not_open_for_another_connection(secret: Secret, owner: UUID, other: UUID):
    assume(owner != other)
    sealed = RING.seal(secret, connection_id=owner, generation=1)

    with pytest.raises(UnsealError):
        RING.unseal(sealed, connection_id=other, generation=1)


@given(secrets, generations, generations)
def test_it_does_not_open_as_another_generation(secret: Secret, sealed_as: int, other: int):
    assume(sealed_as != other)
    sealed = RING.seal(secret, connection_id=ID, generation=sealed_as)

    with pytest.raises(UnsealError):
        RING.unseal(sealed, connection_id=ID, generation=other)


@given(secrets, keys)
def test_it_does_not_open_under_another_key_of_the_same_name(secret: Secret, key: bytes):
    assume(key != A_KEY)
    sealed = RING.seal(secret, connection_id=ID, generation=1)

    with pytest.raises(UnsealError):
        Keyring(primary="a", keys={"a": key}).unseal(sealed, connection_id=ID, generation=1)


@given(secrets, st.data())
def test_one_flipped_bit_anywhere_is_noticed(secret: Secret, data: st.DataObject):
    sealed = RING.seal(secret, connection_id=ID, generation=1)
    field = data.draw(st.sampled_from(["nonce", "ciphertext"]))
    damaged = bytearray(getattr(sealed, field))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(UnsealError):
        RING.unseal(
            msgspec.structs.replace(sealed, **{field: bytes(damaged)}),
            connection_id=ID,
            generation=1,
        )


@given(st.binary(max_size=20), st.binary(max_size=40))
def test_rubbish_is_refused_and_nothing_else_happens(nonce: bytes, ciphertext: bytes):
    sealed = RING.seal(Secret(b""), connection_id=ID, generation=1)

    with pytest.raises(UnsealError):
        RING.unseal(
            msgspec.structs.replace(sealed, nonce=nonce, ciphertext=ciphertext),
            connection_id=ID,
            generation=1,
        )


def test_no_two_seals_share_a_nonce():
    sealed = [RING.seal(Secret(b"same"), connection_id=ID, generation=1) for _ in range(1000)]

    assert len({each.nonce for each in sealed}) == 1000
    assert len({each.ciphertext for each in sealed}) == 1000
    assert {len(each.nonce) for each in sealed} == {12}


def test_older_keys_open_and_the_primary_seals():
    old = RING.seal(Secret(b"old"), connection_id=ID, generation=1)
    rotated = Keyring(primary="b", keys={"a": A_KEY, "b": B_KEY})

    new = rotated.seal(Secret(b"new"), connection_id=ID, generation=2)

    assert rotated.unseal(old, connection_id=ID, generation=1).reveal() == b"old"
    assert new.key_id == rotated.primary == "b"
    with pytest.raises(UnsealError, match="no key 'b' in the keyring"):
        RING.unseal(new, connection_id=ID, generation=2)


def test_a_keyring_shows_no_key():
    text = repr(Keyring(primary="b", keys={"a": A_KEY, "b": B_KEY}))

    assert text == "Keyring(primary='b', keys=['a', 'b'])"


def test_an_error_holds_neither_key_nor_secret():
    sealed = RING.seal(Secret(b"s3cret"), connection_id=ID, generation=1)

    with pytest.raises(UnsealError) as error:
        RING.unseal(sealed, connection_id=ID, generation=2)

    assert "s3cret" not in str(error.value)
    assert error.value.__suppress_context__


def test_a_new_keyring_is_for_its_owner_alone_and_is_the_same_when_opened_again(tmp_path: Path):
    path = tmp_path / "deep" / "keyring.json"

    made = open_keyring(path, create=True)
    sealed = made.seal(Secret(b"x"), connection_id=ID, generation=1)

    for create in (True, False):
        again = open_keyring(path, create=create)
        assert again.unseal(sealed, connection_id=ID, generation=1).reveal() == b"x"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["keyring.json"]


def test_each_new_keyring_has_a_key_of_its_own(tmp_path: Path):
    sealed = open_keyring(tmp_path / "1", create=True).seal(
        Secret(b"x"), connection_id=ID, generation=1
    )

    with pytest.raises(UnsealError):
        open_keyring(tmp_path / "2", create=True).unseal(sealed, connection_id=ID, generation=1)


async def test_many_who_create_a_keyring_at_once_agree_on_one(tmp_path: Path):
    path = tmp_path / "keyring.json"
    rings: list[Keyring] = []

    async def make() -> None:
        rings.append(await anyio.to_thread.run_sync(lambda: open_keyring(path, create=True)))

    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(make)

    assert len({ring.primary for ring in rings}) == 1
    sealed = rings[0].seal(Secret(b"x"), connection_id=ID, generation=1)
    for ring in rings:
        assert ring.unseal(sealed, connection_id=ID, generation=1).reveal() == b"x"


def in_base64(key: bytes) -> str:
    return base64.b64encode(key).decode()


GOOD: dict[str, object] = {"primary": "a", "keys": [{"id": "a", "key": in_base64(A_KEY)}]}


def write_keyring(path: Path, content: object, *, mode: int = 0o600) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    path.chmod(mode)
    return path


def test_a_keyring_written_by_hand_opens(tmp_path: Path):
    ring = open_keyring(write_keyring(tmp_path / "k", GOOD), create=False)

    sealed = RING.seal(Secret(b"x"), connection_id=ID, generation=1)
    assert ring.unseal(sealed, connection_id=ID, generation=1).reveal() == b"x"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "truncated"),
        (b"\xff\xfe\x00", "malformed"),
        (b'{"primary": "\xff", "keys": []}', "UTF-8"),
        (b"[" * 100_000, "array"),
        ({"primary": "a"}, "keys"),
        ({**GOOD, "extra": 1}, "extra"),
        ({"primary": "b", "keys": GOOD["keys"]}, "primary key 'b'"),
        ({"primary": "a", "keys": []}, "primary key 'a'"),
        ({"primary": "a", "keys": [{"id": "a", "key": in_base64(A_KEY[:16])}]}, "has 16 bytes"),
        ({"primary": "a", "keys": [{"id": "a", "key": "n0 base64!"}]}, "base64"),
        ({"primary": "a", "keys": [{"id": "a", "key": in_base64(A_KEY)}] * 2}, "two keys"),
    ],
)
def test_a_keyring_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, content: object, told: str
):
    path = write_keyring(tmp_path / "keyring.json", content)

    with pytest.raises(KeyringError) as error:
        open_keyring(path, create=False)

    text = str(error.value)
    assert text.startswith(f"{path}: ")
    assert told in text
    assert in_base64(A_KEY) not in text
    assert in_base64(A_KEY[:16]) not in text
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o601])
def test_a_keyring_that_others_may_read_is_refused(tmp_path: Path, mode: int):
    path = write_keyring(tmp_path / "keyring.json", GOOD, mode=mode)

    with pytest.raises(KeyringError, match=f"{path}: mode is {mode:04o}"):
        open_keyring(path, create=False)


def test_a_keyring_that_cannot_be_read_or_made_is_named(tmp_path: Path):
    missing = tmp_path / "missing"
    with pytest.raises(KeyringError, match=f"{missing}: No such file"):
        open_keyring(missing, create=False)
    with pytest.raises(KeyringError, match=f"{tmp_path}: "):
        open_keyring(tmp_path, create=False)

    (tmp_path / "file").write_text("")
    below_a_file = tmp_path / "file" / "folder" / "keyring.json"
    for create in (True, False):
        with pytest.raises(KeyringError, match=f"{below_a_file}: Not a directory"):
            open_keyring(below_a_file, create=create)
