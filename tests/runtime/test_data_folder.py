"""Who uses a data folder: one daemon alone, or several that share all but their outcomes."""

import contextlib
import errno
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from runtime import data_folder
from runtime.data_folder import BALLAST, DataFolderError, one_daemon_of, only_daemon_of


def test_daemons_that_share_a_data_folder_have_outcomes_of_their_own(tmp_path: Path):
    with (
        one_daemon_of(tmp_path, "d-1", alone=False) as first,
        one_daemon_of(tmp_path, "d-1", alone=False) as second,
    ):
        assert first.outcomes == tmp_path / "outcomes"
        assert second.outcomes == tmp_path / "outcomes.1"
        assert first.outcomes.is_dir()
        assert second.outcomes.is_dir()


@pytest.mark.parametrize("is_first_alone", [True, False])
def test_who_is_alone_shares_with_nobody(tmp_path: Path, *, is_first_alone: bool):
    with (
        one_daemon_of(tmp_path, "d-1", alone=is_first_alone),
        pytest.raises(DataFolderError, match="another refreshd uses this data folder"),
        one_daemon_of(tmp_path, "d-1", alone=not is_first_alone),
    ):
        pass


def test_a_restore_needs_the_folder_for_itself(tmp_path: Path):
    with (
        one_daemon_of(tmp_path, "d-1", alone=False),
        pytest.raises(DataFolderError, match="another refreshd uses this data folder"),
        only_daemon_of(tmp_path),
    ):
        pass


def test_a_start_has_the_outcomes_of_the_dead_and_not_of_the_living(tmp_path: Path):
    with contextlib.ExitStack() as dying, one_daemon_of(tmp_path, "d-1", alone=False) as living:
        dead = dying.enter_context(one_daemon_of(tmp_path, "d-2", alone=False))
        last = dying.enter_context(one_daemon_of(tmp_path, "d-3", alone=False))
        for own, name in ((living, "a"), (dead, "b"), (last, "c"), (last, BALLAST)):
            (own.outcomes / name).write_text(name)
        dying.close()

        with one_daemon_of(tmp_path, "d-4", alone=False) as mine:
            assert mine.outcomes == tmp_path / "outcomes.1"
            assert mine.former == {"d-2", "d-3"}
            assert sorted(file.name for file in mine.outcomes.iterdir()) == ["b", "c"]
            assert [file.name for file in living.outcomes.iterdir()] == ["a"]
            assert [file.name for file in last.outcomes.iterdir()] == [BALLAST]


def test_a_start_knows_the_last_daemons_that_have_used_its_folder(tmp_path: Path):
    for number in range(40):
        with one_daemon_of(tmp_path, f"d-{number}", alone=True) as own:
            assert own.former == {f"d-{one}" for one in range(max(number - 16, 0), number)}


def test_a_copy_of_a_folder_names_nobody_for_its_daemons_may_live(tmp_path: Path):
    folder, copy = tmp_path / "folder", tmp_path / "copy"
    folder.mkdir()
    with one_daemon_of(folder, "d-1", alone=False):
        shutil.copytree(folder, copy)

        with one_daemon_of(copy, "d-2", alone=False) as own:
            assert own.former == set()
        with one_daemon_of(copy, "d-3", alone=False) as own:
            assert own.former == {"d-2"}


def test_another_host_or_start_of_it_is_not_told_who_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with one_daemon_of(tmp_path, "d-1", alone=False):
        pass
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("another\n")
    monkeypatch.setattr(data_folder, "_BOOT_ID", boot_id)

    with one_daemon_of(tmp_path, "d-2", alone=False) as own:
        assert own.former == set()
    with one_daemon_of(tmp_path, "d-3", alone=False) as own:
        assert own.former == {"d-2"}


@pytest.mark.parametrize(
    "text", [b"", b"\xff\x00\n \n", b"d-1\n", b"x" * 10_000_000, b"\n" * 5_000]
)
def test_rubbish_in_a_lock_file_names_nobody(tmp_path: Path, text: bytes):
    (tmp_path / "lock.0").write_bytes(text)

    with one_daemon_of(tmp_path, "d-1", alone=False) as own:
        assert own.former == set()
    with one_daemon_of(tmp_path, "d-2", alone=False) as own:
        assert own.former == {"d-1"}


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "keyring.json").write_text("{}")
    (tmp_path / "lock.0").symlink_to("keyring.json")

    with (
        pytest.raises(OSError, match=r"lock\.0"),
        one_daemon_of(tmp_path, "d-1", alone=False),
    ):
        pass

    assert (tmp_path / "keyring.json").read_text() == "{}"


def test_a_start_on_a_full_disk_does_without_its_name_in_the_lock_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def is_full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(Path, "write_text", is_full)
        with one_daemon_of(tmp_path, "d-1", alone=False) as own:
            assert own.former == set()

    assert [one["event"] for one in logs] == ["daemon_not_noted"]


def test_one_daemon_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data_folder, "DAEMONS_MAX", 1)
    with (
        one_daemon_of(tmp_path, "d-1", alone=False),
        pytest.raises(DataFolderError, match="1 daemons use this data folder already"),
        one_daemon_of(tmp_path, "d-1", alone=False),
    ):
        pass
