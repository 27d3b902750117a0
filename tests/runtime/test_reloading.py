"""Which settings a reload takes is what the papers say."""

import re
from collections import defaultdict

import msgspec

from runtime.config import Config
from runtime.reloading import flat, is_live
from tests.conftest import ROOT

PAPER = (ROOT / "docs" / "operation.md").read_text().partition("## Reloading")[2]
LIMITS = next(line for line in PAPER.splitlines() if line.startswith("| limits |"))


def test_the_paper_names_exactly_the_settings_that_are_taken():
    live, rest = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for path in flat(Config()):
        section, _, name = path.rpartition(".")
        (live if is_live(path) else rest)[section].add(name)
    named = set(re.findall(r"`([a-z_.]+)`", LIMITS))

    # Whole sections, or all but what is named, or what is named alone.
    assert not rest["actors"]
    assert rest["service.limits"] == {"credential_bytes_max"} == named & rest["service.limits"]
    assert live["state.limits"] == named & (live["state.limits"] | rest["state.limits"])
    assert live["cluster"] == {"held_max"}
    assert "cluster.held_max" in named
    assert live["log"] == {"level"}
    assert "| `log.level` |" in PAPER
    sections = {section for section, names in live.items() if names}
    assert sections == {"actors", "service.limits", "state.limits", "cluster", "log"}


def test_every_setting_but_the_providers_has_a_path():
    config = msgspec.to_builtins(Config(), enc_hook=str)

    assert {path.split(".")[0] for path in flat(Config())} == config.keys() - {"providers"}
    assert flat(Config()) == flat(Config())
