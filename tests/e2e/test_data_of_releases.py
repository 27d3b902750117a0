"""A data folder that this release's first code has written starts in every later one, as it is.

``tests/fixtures/make_data.py`` says how it was made; of 0.1.0 ``test_former_data`` tells more.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.token_daemon import token

FIXTURES = ROOT / "tests" / "fixtures"
RELEASES = sorted(file.stem for file in FIXTURES.glob("data_v*.json"))
FORMER = [name for name in RELEASES if name != "data_v0_1_0"]


def _without_clocks(body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without what counts down, or was not told at first."""
    told: dict[str, Any] = body["ok"] if "ok" in body else body["error"]
    for name in ("expires_in_s", "retry_after_s", "detail"):
        told.pop(name, None)
    return body


def test_there_is_a_folder_of_each_release_and_its_archive():
    assert {"data_v0_1_0", "data_v0_2_0"} <= set(RELEASES)
    assert all((FIXTURES / f"{name}.tar.gz").exists() for name in RELEASES)


@pytest.mark.parametrize("release", FORMER)
async def test_it_starts_with_every_connection_event_and_secret(tmp_path: Path, release: str):
    known = json.loads((FIXTURES / f"{release}.json").read_text())
    shutil.unpack_archive(FIXTURES / f"{release}.tar.gz", tmp_path / "data")
    names: dict[str, dict[str, Any]] = known["connections"]

    async with (
        daemon_process(tmp_path / "data") as daemon,
        plain_caller(**daemon.context) as caller,
    ):
        found = {name: await caller.get(one["id"]) for name, one in names.items()}
        tokens = {name: (await token(caller, one["id"])).body for name, one in names.items()}
        await caller.events_caught_up()
        events = await caller.told()
        refreshed = await caller.refresh(names["last"]["id"])
        generation = (await caller.get(names["last"]["id"]))["generation"]
        assert await daemon.stop() == 0

    assert {
        name: found[name].items() >= one.items() for name, one in names.items()
    } == dict.fromkeys(names, True)
    assert {name: _without_clocks(one) for name, one in tokens.items()} == {
        name: _without_clocks(one) for name, one in known["tokens"].items()
    }
    told: list[list[str]] = []
    for event in events:
        subject, _ = event.pop("_subject"), event.pop("_headers")
        digest = hashlib.sha256(json.dumps(event, sort_keys=True).encode()).hexdigest()
        told.append([subject, event["id"], digest])
    # Behind them comes what the ledger alone had, and what was asked here.
    assert told[: len(known["events"])] == known["events"]
    assert [subject.rpartition(".")[2] for subject, *_ in told[len(known["events"]) :]][:2] == [
        *("attempted", "succeeded"),
    ]
    assert refreshed.code == "ok"
    assert generation == names["last"]["generation"] + 1
