"""The file of rejected lines is that of an import that has ended, whatever ends the next one."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from runtime.cli.importing import Rejected
from runtime.cli.rejects_file import RejectsFile
from tests.fakes.daemon_process import ROOT, clean_environment
from tests.fakes.eventually import eventually
from tests.fakes.import_files import imported, line, text_of
from tests.fakes.refreshd_command import refreshd


async def test_an_import_that_never_began_leaves_what_the_dry_run_told(tmp_path: Path):
    text = text_of(line(), line(nope=1))
    dry = await imported(tmp_path, None, text, "--dry-run")

    run = await imported(tmp_path, tmp_path / "nowhere", text)

    assert (dry.code, run.code) == (1, 69)
    assert run.rejects == dry.rejects != []
    assert not (tmp_path / "rejected.part").exists()


async def test_an_import_that_is_killed_leaves_its_part_beside_the_file_of_the_run_before(
    tmp_path: Path,
):
    text = text_of(line(), line(nope=1))
    before = await imported(tmp_path, None, text, "--dry-run")
    part = tmp_path / "rejected.part"
    arguments = ("import", "-", "--dry-run", "--rejects", str(tmp_path / "rejected"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "runtime", *arguments),
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(b"nothing\n")

    async def is_told() -> bool:
        return part.exists() and part.read_bytes().endswith(b"\n")

    await eventually(is_told, within_s=30)
    process.send_signal(signal.SIGKILL)
    await process.wait()

    assert json.loads((tmp_path / "rejected").read_text()) == before.rejects[0]
    assert json.loads(part.read_text())["line"] == 1
    again = await imported(tmp_path, None, text, "--dry-run")
    assert again.rejects == before.rejects
    assert not part.exists()


async def test_rejects_may_go_where_there_is_no_file(tmp_path: Path):
    file = tmp_path / "lines"
    file.write_bytes(text_of(line(nope=1)))

    told = await refreshd("import", str(file), "--dry-run", "--rejects", "/dev/stdout")
    (tmp_path / "link").symlink_to(file)
    to_itself = await refreshd("import", str(file), "--dry-run", "--rejects", f"{tmp_path}/link")

    assert told.code == 1
    assert json.loads(told.stdout.splitlines()[0])["line"] == 1
    assert to_itself.code == 2
    assert "that is the file to import" in to_itself.stderr


def test_an_error_on_the_way_leaves_the_file_of_the_run_before(tmp_path: Path):
    path = tmp_path / "rejects"
    path.write_text("before")
    source = os.open("/dev/null", os.O_RDONLY)

    try:
        with RejectsFile(path, source) as told:
            told.add(Rejected(1, "CODE", "reason"))
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        os.close(source)

    assert path.read_text() == "before"
    assert [one.name for one in tmp_path.iterdir()] == ["rejects"]
