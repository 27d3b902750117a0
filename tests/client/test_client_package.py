"""The client is a package by itself: small, typed, and without a line of the daemon's."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "clients/python"
MODULES = sorted((FOLDER / "refreshd_client").glob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names - sys.stdlib_module_names - {"refreshd_client"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_imports_nats_and_msgspec_and_an_http_library_only_where_it_is_asked_for(
    path: Path,
):
    own = {path.stem} if path.stem in ("httpx", "httpx2") else set[str]()

    assert imported(path) <= {"nats", "msgspec"} | own


def test_its_license_is_the_daemons():
    assert (FOLDER / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_its_version_is_the_daemons():
    projects = [
        tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        for folder in (ROOT, FOLDER)
    ]

    assert len({project["version"] for project in projects}) == 1


def test_its_wheel_installs_by_itself_and_is_typed(tmp_path: Path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(tmp_path), str(FOLDER)],
        check=True,
        stderr=subprocess.PIPE,
    )
    (wheel,) = tmp_path.glob("refreshd_client-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    metadata = next(name for name in names if name.endswith("/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    needs = [line.split()[1] for line in text.splitlines() if line.startswith("Requires-Dist: ")]
    clean, target = tmp_path / "clean", tmp_path / "target"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(clean)], check=True)
    python = clean / "bin/python"
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(wheel)], check=True)
    # What it needs stands beside, as an index would have brought it, and nothing else does.
    target.mkdir()
    for package in ("nats", "msgspec"):
        (target / package).symlink_to(place_of(package))

    told = subprocess.run(
        [str(python), "-c", "import refreshd_client; print(refreshd_client.__file__)"],
        env={"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lacks = subprocess.run(
        [str(python), "-c", "import refreshd_client.httpx2"],
        env={"PYTHONPATH": str(target)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"refreshd_client"}
    assert "refreshd_client/py.typed" in names
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert {one.partition(">")[0] for one in needs[:2]} == {"msgspec", "nats-py"}
    assert str(clean) in told.stdout
    assert "pip install 'refreshd-client[httpx2]'" in lacks.stderr


def place_of(package: str) -> Path:
    """Return the folder of an installed package."""
    module = __import__(package)
    assert module.__file__ is not None
    return Path(module.__file__).parent
