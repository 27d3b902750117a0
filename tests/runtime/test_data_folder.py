"""Who uses a data folder: one daemon alone, or several that share all but their outcomes."""

import contextlib
from pathlib import Path

import pytest

from runtime import data_folder
from runtime.data_folder import BALLAST, DataFolderError, one_daemon_of, only_daemon_of


def test_daemons_that_share_a_data_folder_have_outcomes_of_their_own(tmp_path: Path):
    with (
        one_daemon_of(tmp_path, alone=False) as first,
        one_daemon_of(tmp_path, alone=False) as second,
    ):
        assert first == tmp_path / "outcomes"
        assert second == tmp_path / "outcomes.1"
        assert first.is_dir()
        assert second.is_dir()


@pytest.mark.parametrize("is_first_alone", [True, False])
def test_who_is_alone_shares_with_nobody(tmp_path: Path, *, is_first_alone: bool):
    with (
        one_daemon_of(tmp_path, alone=is_first_alone),
        pytest.raises(DataFolderError, match="another refreshd uses this data folder"),
        one_daemon_of(tmp_path, alone=not is_first_alone),
    ):
        pass


def test_a_restore_needs_the_folder_for_itself(tmp_path: Path):
    with (
        one_daemon_of(tmp_path, alone=False),
        pytest.raises(DataFolderError, match="another refreshd uses this data folder"),
        only_daemon_of(tmp_path),
    ):
        pass


def test_a_start_has_the_outcomes_of_the_dead_and_not_of_the_living(tmp_path: Path):
    with contextlib.ExitStack() as dying, one_daemon_of(tmp_path, alone=False) as living:
        dead = dying.enter_context(one_daemon_of(tmp_path, alone=False))
        last = dying.enter_context(one_daemon_of(tmp_path, alone=False))
        for folder, name in ((living, "a"), (dead, "b"), (last, "c"), (last, BALLAST)):
            (folder / name).write_text(name)
        dying.close()

        with one_daemon_of(tmp_path, alone=False) as mine:
            assert mine == tmp_path / "outcomes.1"
            assert sorted(file.name for file in mine.iterdir()) == ["b", "c"]
            assert [file.name for file in living.iterdir()] == ["a"]
            assert [file.name for file in last.iterdir()] == [BALLAST]


def test_one_daemon_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data_folder, "DAEMONS_MAX", 1)
    with (
        one_daemon_of(tmp_path, alone=False),
        pytest.raises(DataFolderError, match="1 daemons use this data folder already"),
        one_daemon_of(tmp_path, alone=False),
    ):
        pass
