"""What goes wrong on either side of pyrage's thread is told as it was raised."""

import io
from collections.abc import AsyncGenerator
from typing import Any

import pyrage
import pytest

from domain.credentials import Secret
from runtime.backup.age import AgeError, read_private, read_public, seal, unseal

IDENTITY: Any = pyrage.x25519.Identity.generate()  # type: ignore[attr-defined]
TO, BY = read_public([str(IDENTITY.to_public())]), read_private(f"# mine\n\n{IDENTITY}\n")


class OursError(Exception):
    """Whatever one side raises."""


async def pieces(*texts: bytes | Exception) -> AsyncGenerator[bytes]:
    for text in texts:
        if isinstance(text, Exception):
            raise text
        yield text


class FullDisk(io.BytesIO):
    def write(self, _data: object) -> int:
        raise OSError(28, "No space left on device")


async def test_a_stream_comes_back_as_it_was_in_pieces():
    out, found = io.BytesIO(), list[bytes]()

    async def take(data: bytes) -> None:
        found.append(data)

    await seal(pieces(b"a" * 300_000, b"", b"b" * 300_000), TO, out)
    await unseal(io.BytesIO(out.getvalue()), BY, take)

    assert b"".join(found) == b"a" * 300_000 + b"b" * 300_000
    assert len(found) > 1


@pytest.mark.parametrize("to", [TO, Secret(b"words")], ids=["key", "passphrase"])
async def test_an_error_of_what_is_sealed_is_told_as_it_is(to: Any):
    with pytest.raises(OursError):
        await seal(pieces(b"a", OursError()), to, io.BytesIO())


async def test_a_full_disk_is_told_as_it_is():
    with pytest.raises(OSError, match="No space left on device"):
        await seal(pieces(b"a" * 300_000), TO, FullDisk())


async def test_an_error_of_who_takes_it_is_told_as_it_is():
    out = io.BytesIO()
    await seal(pieces(b"a"), TO, out)

    async def take(_data: bytes) -> None:
        raise OursError

    with pytest.raises(OursError):
        await unseal(io.BytesIO(out.getvalue()), BY, take)


@pytest.mark.parametrize(
    "text",
    ["", "# only\n", "AGE-SECRET-KEY-1X", f"{IDENTITY}\nx"],
    ids=["nothing", "a remark", "half a key", "more than a key"],
)
def test_what_is_no_private_key_is_refused_and_not_shown(text: str):
    with pytest.raises(AgeError) as refused:
        read_private(text)

    assert str(IDENTITY) not in str(refused.value)


def test_what_is_no_public_key_is_refused_and_not_shown():
    with pytest.raises(AgeError) as refused:
        read_public([str(IDENTITY)])

    assert str(IDENTITY) not in str(refused.value)


PASSPHRASE = Secret(b"words")


async def sealed(to: Any) -> bytes:
    out = io.BytesIO()
    await seal(pieces(b"a" * 1000), to, out)
    return out.getvalue()


async def why(data: bytes, by: Any) -> str:
    async def take(_data: bytes) -> None:
        """Only look."""

    with pytest.raises(AgeError) as refused:
        await unseal(io.BytesIO(data), by, take)
    return str(refused.value)


async def test_what_is_wrong_with_a_file_is_told_as_far_as_it_is_known():
    to_key, by_words = await sealed(TO), await sealed(PASSPHRASE)
    other = read_private(str(pyrage.x25519.Identity.generate()))  # type: ignore[attr-defined]

    for by in (BY, PASSPHRASE):
        assert await why(b"", by) == "it is empty"
        assert (await why(b"PK\x03\x04", by)).startswith("it is not a file in the age format")
    assert "sealed with a passphrase: give --passphrase-file" in await why(by_words, BY)
    assert "sealed to a key: give its private half" in await why(to_key, PASSPHRASE)
    assert "another passphrase" in await why(by_words, Secret(b"others"))
    assert "sealed to another key" in await why(to_key, other)
    for whole, by in ((to_key, BY), (by_words, PASSPHRASE)):
        assert await why(whole[:-1], by) == "damaged, or cut off"
        assert await why(whole[:-9] + b"\0" + whole[-8:], by) == "damaged, or cut off"
