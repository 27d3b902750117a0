"""The files of deploy/ are what the programs take: by refreshd's own loader, by nats-server -t, as YAML.

No container is built or run here.
"""

import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runtime.checking import check
from runtime.config import load_config
from runtime.web.address import DEFAULT_LISTEN
from tests.conftest import ROOT
from tests.fakes.nats_process import NATS_SERVER

DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    one
    for file in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for one in yaml.safe_load_all(file.read_text())
]
MEMBERS = [one for name, one in COMPOSE["services"].items() if name.startswith("refreshd")]
SERVERS = {name: one for name, one in COMPOSE["services"].items() if name.startswith("nats")}


def stateful_set(name: str) -> dict[str, Any]:
    (found,) = (
        one for one in MANIFESTS if one["kind"] == "StatefulSet" and one["metadata"]["name"] == name
    )
    return found


def pod(name: str) -> dict[str, Any]:
    return stateful_set(name)["spec"]["template"]["spec"]


def kubernetes_environment() -> dict[str, str]:
    return {one["name"]: one["value"] for one in pod("refreshd")["containers"][0]["env"]}


def secret_files() -> Iterator[str]:
    """Yield every path of a secret that refreshd.toml names."""
    text = (DEPLOY / "refreshd.toml").read_text()
    yield from re.findall(r'"(/run/secrets/[^"]+)"', text)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return the folder of secrets, as the script makes it."""
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    subprocess.run(["./make-secrets.sh"], cwd=tmp_path, check=True, timeout=20)
    return tmp_path / "secrets"


@pytest.mark.parametrize("environment", [{}, MEMBERS[0]["environment"], kubernetes_environment()])
def test_every_setting_and_secret_of_the_cluster_is_one_that_refreshd_takes(
    tmp_path: Path, secrets: Path, environment: dict[str, str]
):
    config = tmp_path / "refreshd.toml"
    text = (DEPLOY / "refreshd.toml").read_text()
    config.write_text(text.replace("/run/secrets", str(secrets)))
    environment = {name: one for name, one in environment.items() if name != "REFRESHD_CONFIG"}

    found = check(config, tmp_path, environment=environment, nats_url=None)

    assert found.config.nats.replicas == 3
    assert found.config.nats.url is not None
    assert len(found.config.nats.url.split(",")) == 3
    assert found.config.state.partitions is None
    assert [profile.slug for profile in found.profiles] == ["google"]
    assert found.keyring is not None


def test_made_secrets_are_for_their_owner_alone_and_never_made_anew(secrets: Path):
    files = sorted(secrets.iterdir())
    before = [file.read_bytes() for file in files]

    subprocess.run(["./make-secrets.sh"], cwd=secrets.parent, check=True, timeout=20)

    assert [file.read_bytes() for file in files] == before
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    declared = {Path(one["file"]).name for one in COMPOSE["secrets"].values()}
    assert {file.name for file in files} == declared


def test_nats_server_takes_its_configuration_with_the_made_users_and_routes(
    tmp_path: Path, secrets: Path
):
    (tmp_path / "etc" / "nats").mkdir(parents=True)
    config = Path(shutil.copy(DEPLOY / "nats.conf", tmp_path / "etc" / "nats"))
    (tmp_path / "run").mkdir()
    secrets.rename(tmp_path / "run" / "secrets")

    tested = subprocess.run(
        [NATS_SERVER, "-t", "-c", config, "--name", "nats-1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert tested.returncode == 0, tested.stderr
    assert "sync_interval: always" in config.read_text()


def test_compose_has_three_servers_and_two_members_that_have_all_that_is_named():
    assert len(SERVERS) == 3
    assert len(MEMBERS) == 2
    hosts = {f"nats://{name}:4222" for name in SERVERS}
    config = load_config(DEPLOY / "refreshd.toml", environment={})
    assert set((config.nats.url or "").split(",")) == hosts
    for name, server in SERVERS.items():
        assert server["command"][-2:] == ["--name", name]
        assert server["volumes"] == [f"{name}:/data"]
    for number, member in enumerate(MEMBERS, 1):
        assert {f"/run/secrets/{one}" for one in member["secrets"]} == set(secret_files())
        assert member["volumes"] == [f"refreshd-{number}:/var/lib/refreshd"]
        assert member["command"][-1] == member["configs"][0]["target"]
        assert float(member["stop_grace_period"].rstrip("s")) > config.service.drain_grace_s
        assert (DEPLOY / member["build"]["context"] / member["build"]["dockerfile"]).exists()
    for one in (*COMPOSE["configs"].values(),):
        assert (DEPLOY / one["file"]).exists()
    for one in (*MEMBERS, *SERVERS.values()):
        assert set(one["secrets"]) <= COMPOSE["secrets"].keys()
        assert {config["source"] for config in one["configs"]} <= COMPOSE["configs"].keys()
        assert (one["read_only"], one["cap_drop"]) == (True, ["ALL"])
        assert {volume.split(":")[0] for volume in one["volumes"]} <= COMPOSE["volumes"].keys()


def test_kubernetes_has_three_servers_and_two_members_that_are_nobody_much():
    assert stateful_set("nats")["spec"]["replicas"] == 3
    assert stateful_set("refreshd")["spec"]["replicas"] == 2
    grace_s = load_config(DEPLOY / "refreshd.toml", environment={}).service.drain_grace_s
    assert pod("refreshd")["terminationGracePeriodSeconds"] > grace_s
    (member,) = pod("refreshd")["containers"]
    (port,) = member["ports"]
    assert kubernetes_environment()["REFRESHD_HTTP_LISTEN"] == f"0.0.0.0:{port['containerPort']}"
    paths = {member[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness")}
    assert paths == {"/livez"}
    assert member["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for name in ("nats", "refreshd"):
        spec = stateful_set(name)["spec"]
        container = pod(name)["containers"][0]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
        claims = {claim["metadata"]["name"] for claim in spec["volumeClaimTemplates"]}
        assert mounts.keys() == volumes.keys() | claims
        assert mounts["secrets"] == "/run/secrets"
        assert volumes["secrets"]["secret"]["defaultMode"] == 0o400
        assert pod(name)["securityContext"]["runAsNonRoot"] is True
        assert pod(name)["securityContext"]["fsGroup"] > 0
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        assert not pod(name)["enableServiceLinks"]


def test_the_image_is_made_of_what_is_there_and_runs_as_a_number_that_is_not_root():
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    context = {
        line[1:] for line in (ROOT / ".containerignore").read_text().split() if line[0] == "!"
    }
    sources = {
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert sources == context
    assert all((ROOT / source).exists() for source in sources)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    assert "VOLUME /var/lib/refreshd" in lines
    assert any(f"http://{DEFAULT_LISTEN}/livez" in line for line in lines)
    assert 'CMD ["serve"]' in lines
    assert pod("refreshd")["securityContext"]["runAsUser"] == 10001
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    images = {line.split()[1] for line in lines if line.startswith("FROM")}
    assert images == {f"python:{wanted['requires-python'].removeprefix('>=')}-slim-bookworm"}
    versions = {MEMBERS[0]["image"], pod("refreshd")["containers"][0]["image"]}
    assert versions == {f"refreshd:{wanted['version']}"}
