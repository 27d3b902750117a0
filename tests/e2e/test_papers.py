"""What the papers show of the settings is true."""

import json
import re
import tomllib
from pathlib import Path

import msgspec

from runtime.config import Config, load_config
from tests.fakes.papers import block


def test_the_settings_in_the_papers_are_all_settings_and_their_defaults(tmp_path: Path):
    text = block("docs/configuration.md", "toml")
    file = tmp_path / "refreshd.toml"
    file.write_text(text)

    shown = tomllib.loads(text)
    defaults = json.loads(msgspec.json.encode(Config(), enc_hook=str))

    assert load_config(file, environment={}) == Config()
    for section, settings in defaults.items():
        for key, value in settings.items():
            if value is None:
                assert re.search(rf"^# .*\b{key}\b", text, re.MULTILINE), f"{section}.{key}"
            else:
                assert shown[section][key] == value, f"{section}.{key}"
