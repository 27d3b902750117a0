"""Wheel and sdist are whole: built, installed where nothing of this folder is, and run."""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from runtime import VERSION
from runtime.provider.profiles import shipped_slugs
from tests.conftest import ROOT


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": str(cwd), "COLUMNS": "200"}
    return subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=55
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, and the wheel made of what is in it."""
    folder = tmp_path_factory.mktemp("built")
    made = _run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    assert made.returncode == 0, made.stderr
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "source", filter="data")
    source = folder / "source" / f"refreshd-{VERSION}"
    made = _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="module")
def program(built: Path) -> Path:
    """Return refreshd in an environment that has the wheel, and of this one the dependencies."""
    venv.create(built / "venv", with_pip=False)
    python = built / "venv" / "bin" / "python"
    wheel = next(built.glob("*.whl"))
    installed = _run(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--quiet", "--no-deps", "--no-index", wheel),
        cwd=built,
    )
    assert installed.returncode == 0, installed.stderr
    # A path that is added so brings no editable install along.
    places = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=built)
    pth = Path(places.stdout.strip()) / "dependencies.pth"
    pth.write_text(f"{sysconfig.get_path('purelib')}\n")
    return built / "venv" / "bin" / "refreshd"


def test_the_installed_program_tells_its_version_and_finds_what_comes_with_it(
    program: Path, tmp_path: Path
):
    where = _run(
        program.parent / "python", "-c", "import runtime; print(runtime.__file__)", cwd=tmp_path
    )
    version = _run(program, "--version", cwd=tmp_path)
    listed = _run(program, "provider", "list", "-o", "json", cwd=tmp_path)

    assert str(program.parent.parent) in where.stdout
    assert version.stdout == f"{VERSION}\n", version.stderr
    assert len(json.loads(listed.stdout)) == len(shipped_slugs()), listed.stderr


def test_the_installed_program_writes_a_configuration_and_checks_it(program: Path, tmp_path: Path):
    made = _run(program, "init", cwd=tmp_path)
    checked = _run(program, "check", "refreshd.toml", cwd=tmp_path)

    assert made.returncode == 0, made.stderr
    assert checked.stdout.startswith("ok: 0 providers"), checked.stderr
    (tmp_path / "refreshd.toml").write_text("nonsense = 1\n")
    refused = _run(program, "check", "refreshd.toml", cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (
        2,
        "refreshd.toml:nonsense: no such section\n",
    )


def test_the_wheel_holds_the_program_and_nothing_of_the_tests(built: Path):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()

    assert {name.split("/")[0] for name in names} == {
        *("actors", "domain", "runtime"),
        f"refreshd-{VERSION}.dist-info",
    }
    kept = {str(file.relative_to(ROOT)) for file in (ROOT / "runtime").rglob("*.py")}
    assert kept <= set(names)


def test_the_sdist_holds_what_deploys_and_explains_it(built: Path):
    source = built / "source" / f"refreshd-{VERSION}"

    for name in (
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "docs/operation.md",
        "deploy/refreshd.service",
    ):
        assert (source / name).exists(), name
    assert not [file for file in source.rglob("*") if file.name in {".venv", "secrets"}]
