"""Lines are cut where they end, however the bytes arrive, and none takes more than its room."""

import itertools
import os
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.line_reader import Line, LineReader


async def read(descriptor: int, line_bytes_max: int = 10) -> list[Line]:
    return [one async for one in LineReader(descriptor, line_bytes_max=line_bytes_max).lines()]


@given(text=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_it_does_not_matter_how_the_bytes_arrive(text: bytes, cuts: list[int]):
    reader = LineReader(-1, line_bytes_max=10)
    places = sorted({0, *(min(cut, len(text)) for cut in cuts), len(text)})

    parts = [text[a:b] for a, b in itertools.pairwise(places)]
    lines = [one for part in parts for one in reader._split(part)] + list(reader._last())

    whole = text.split(b"\n") if text else []
    if whole and not whole[-1]:
        whole.pop()
    assert [one.number for one in lines] == list(range(1, len(whole) + 1))
    wanted = [part if len(part) <= 10 else None for part in whole]
    if wanted and wanted[0] is not None:
        wanted[0] = wanted[0].removeprefix(b"\xef\xbb\xbf")
    assert [one.text for one in lines] == wanted
    assert not lines or lines[-1].end_bytes == len(text)


async def test_a_pipe_is_waited_for_and_others_run_meanwhile():
    readable, writable = os.pipe()
    found: list[Line] = []

    async def take() -> None:
        found.extend(await read(readable))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take)
        await anyio.lowlevel.checkpoint()
        os.write(writable, b"a\nb")
        await anyio.lowlevel.checkpoint()
        os.write(writable, b"c\n")
        os.close(writable)
    os.close(readable)

    assert [one.text for one in found] == [b"a", b"bc"]


async def test_a_line_without_an_end_takes_no_room(tmp_path: Path):
    file = tmp_path / "endless"
    with file.open("wb") as opened:
        opened.truncate(64 * 1024 * 1024)
    descriptor = os.open(file, os.O_RDONLY)
    reader = LineReader(descriptor, line_bytes_max=10)

    lines = [one async for one in reader.lines()]
    os.close(descriptor)

    assert lines == [Line(1, None, 64 * 1024 * 1024)]
    assert reader._begun == []


@pytest.mark.parametrize("path", ["/dev/null"])
async def test_a_device_that_is_always_ready_is_read(path: str):
    descriptor = os.open(path, os.O_RDONLY)

    assert await read(descriptor) == []

    os.close(descriptor)
