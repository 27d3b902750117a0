"""Files and folders with secrets are their owner's alone, or the start says which one is not."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
import structlog
from structlog.testing import capture_logs

from runtime.config import Config, load_config
from runtime.daemon import run_daemon
from runtime.data_folder import DataFolderError
from runtime.nats.embedded import EmbeddedNatsError
from runtime.private import (
    ExposedError,
    check_secret_file,
    make_private,
    refuse_if_changeable,
    refuse_unless_private,
)
from runtime.provider.secret_files import ConfigError, secret_of

US, ROOT, STRANGER = 1000, 0, 1001
FILE, FOLDER, PIPE = stat.S_IFREG, stat.S_IFDIR, stat.S_IFIFO
SOMEWHERE = Path("/somewhere")


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Let us be user 1000, and every path be what the test says."""
    monkeypatch.setattr(os, "geteuid", lambda: US)

    def say(mode: int, owner: int) -> None:
        result = os.stat_result((mode, 0, 0, 1, owner, owner, 0, 0, 0, 0))
        monkeypatch.setattr(Path, "stat", lambda _path: result)

    return say


def verdict(check: Callable[[Path], None]) -> str:
    """Return refused, warned or taken."""
    with structlog.testing.capture_logs() as logged:
        try:
            check(SOMEWHERE)
        except ExposedError:
            return "refused"
    return "warned" if logged else "taken"


@pytest.mark.parametrize(
    ("check", "mode", "owner", "expected"),
    [
        (refuse_unless_private, FILE | 0o600, US, "taken"),
        (refuse_unless_private, FILE | 0o400, ROOT, "taken"),
        (refuse_unless_private, FILE | 0o440, ROOT, "taken"),
        (refuse_unless_private, FILE | 0o440, US, "refused"),
        (refuse_unless_private, FILE | 0o444, ROOT, "refused"),
        (refuse_unless_private, FILE | 0o460, ROOT, "refused"),
        (refuse_unless_private, FILE | 0o600, STRANGER, "refused"),
        (refuse_unless_private, FOLDER | 0o700, US, "taken"),
        (refuse_unless_private, FOLDER | 0o755, US, "refused"),
        (refuse_if_changeable, FOLDER | 0o755, US, "taken"),
        (refuse_if_changeable, FOLDER | 0o775, US, "refused"),
        (refuse_if_changeable, FOLDER | 0o777, ROOT, "refused"),
        (refuse_if_changeable, FOLDER | 0o2775, ROOT, "taken"),
        (refuse_if_changeable, FOLDER | 0o700, STRANGER, "refused"),
        (check_secret_file, FILE | 0o600, US, "taken"),
        (check_secret_file, FILE | 0o640, US, "warned"),
        (check_secret_file, FILE | 0o644, US, "warned"),
        (check_secret_file, FILE | 0o444, ROOT, "warned"),
        (check_secret_file, FILE | 0o440, ROOT, "taken"),
        (check_secret_file, FILE | 0o620, US, "refused"),
        (check_secret_file, FILE | 0o602, US, "refused"),
        (check_secret_file, FILE | 0o660, ROOT, "refused"),
        (check_secret_file, FILE | 0o600, STRANGER, "refused"),
        (check_secret_file, PIPE | 0o622, STRANGER, "taken"),
    ],
)
def test_who_owns_it_and_what_others_may_decides(
    found: Callable[[int, int], None],
    check: Callable[[Path], None],
    mode: int,
    owner: int,
    expected: str,
):
    found(mode, owner)

    assert verdict(check) == expected


def test_the_mode_and_the_mend_are_told(tmp_path: Path):
    tmp_path.chmod(0o777)

    with pytest.raises(ExposedError) as refused:
        refuse_if_changeable(tmp_path)

    assert "mode is 0777" in str(refused.value)
    assert str(refused.value).endswith(f": chmod 0700 {tmp_path}")


def test_a_link_is_as_private_as_what_it_leads_to(tmp_path: Path):
    """As Kubernetes mounts a secret: a link to a link's file."""
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("secret")
    file.chmod(0o600)
    link.symlink_to(file)
    refuse_unless_private(link)

    file.chmod(0o604)
    with pytest.raises(ExposedError, match="0604"):
        refuse_unless_private(link)


@pytest.mark.parametrize(
    ("folder", "mode", "error"), [(".", 0o770, DataFolderError), ("nats", 0o775, EmbeddedNatsError)]
)
def test_a_data_folder_that_is_not_ours_alone_is_refused_at_the_start(
    tmp_path: Path, folder: str, mode: int, error: type[Exception]
):
    """The other may be a backup that was put back without its modes."""
    path = tmp_path / folder
    path.mkdir(exist_ok=True)
    path.chmod(mode)

    async def start() -> None:
        async with run_daemon(Config(), tmp_path):
            pass

    with pytest.raises(error, match=f"{path}: mode is {mode:04o}.*: chmod 0700 {path}"):
        anyio.run(start)


def test_a_folder_that_others_can_read_is_made_private_and_told(tmp_path: Path):
    folder = tmp_path / "nats"
    folder.mkdir()
    folder.chmod(0o755)

    with capture_logs() as logs:
        make_private(folder)
        make_private(folder)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [line["event"] for line in logs] == ["folder_made_private"]


def test_a_client_secret_that_others_can_change_is_refused_with_its_key(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("hunter2")
    file.chmod(0o606)

    with pytest.raises(ConfigError) as refused:
        secret_of(file, "providers.schwab.client_secret_file")

    assert str(refused.value).startswith(
        f"providers.schwab.client_secret_file: {file}: mode is 0606"
    )
    assert "hunter2" not in str(refused.value)


def test_a_client_secret_that_others_can_read_is_told_and_taken(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("hunter2\n")
    file.chmod(0o644)

    with structlog.testing.capture_logs() as logged:
        secret = secret_of(file, "providers.schwab.client_secret_file")

    assert secret == "hunter2"
    assert [line["event"] for line in logged] == ["secret_file_exposed"]
    assert f"{file}: mode is 0644" in logged[0]["told"]
    assert "hunter2" not in str(logged)


@pytest.mark.parametrize(
    "key", ["creds_file", "nkey_seed_file", "password_file", "token_file", "key_file", "cert_file"]
)
def test_each_file_that_lets_into_nats_is_checked(tmp_path: Path, key: str):
    file = tmp_path / "secret"
    file.write_text("hunter2")
    file.chmod(0o622)
    environment = {f"REFRESHD_NATS_{key.upper()}": str(file)}

    with pytest.raises(ConfigError, match=rf"nats\.{key}: {file}: mode is 0622"):
        load_config(None, environment=environment, nats_url="nats://127.0.0.1:1").login()
