"""A configuration is checked as one: what is read is of one moment."""

from pathlib import Path

import pytest

from runtime import checking
from runtime.checking import FaultsError, check
from runtime.config import Config, load_config

SECTION = '[providers.google]\nclient_id = "me"\nclient_auth = "none"\n'


def test_a_file_that_is_changed_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "refreshd.toml"
    file.write_text(SECTION)

    def cut_off(*arguments: Path | None, **options: object) -> Config:
        file.write_text("")
        return load_config(*arguments, **options)

    monkeypatch.setattr(checking, "load_config", cut_off)
    with pytest.raises(FaultsError) as refused:
        check(file, tmp_path, environment={}, nats_url=None)

    assert str(refused.value) == f"{file}: it was changed while it was read: try again"


def test_what_is_right_comes_with_its_profiles_and_the_place_of_its_keys(tmp_path: Path):
    file = tmp_path / "refreshd.toml"
    file.write_text(SECTION)

    found = check(file, tmp_path, environment={"REFRESHD_LOG_LEVEL": "debug"}, nats_url=None)

    assert [profile.slug for profile in found.profiles] == ["google"]
    assert found.config.log.level == "debug"
    assert (found.keyring, found.key_file) == (None, tmp_path / "keyring.json")
