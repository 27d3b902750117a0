"""A file that is no TOML is told with line, column and key, and without what it says there."""

from pathlib import Path

import pytest

from runtime.toml_text import NotTomlError, settings_of

SECRET = "canary-9b1f"


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[providers.fake\n", "1:16", "[providers.fake: Expected ']' at the end of a table"),
        (f'\nurl = "{SECRET}\n', "2:19", "url: the text's closing quote is missing"),
        (f"[nats]\nurl = {SECRET}\n", "2:7", "url: this is no value: a text is in quotes"),
        (f"url: {SECRET}\n", "1:4", "Expected '=' after a key"),
        ('a = "1"\r\na = "2"\r\n', "2:8", "a: this is there twice"),
        ("[nats]\n[nats]\n", "2:6", "[nats: this is there twice"),
        (f'url = """{SECRET}', "1:21", "url: a quote or bracket is opened and never closed"),
        ("ports = [1,\n2\n", "3:1", "a quote or bracket is opened and never closed"),
        (b"[nats]\nurl = '\xff'\n", "2:8", "this is not UTF-8"),
    ],
)
def test_what_is_no_toml_is_told_with_its_place(
    tmp_path: Path, text: str | bytes, place: str, message: str
):
    file = tmp_path / "file.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(NotTomlError) as told:
        settings_of(file)

    assert told.value.place == place
    assert told.value.message.startswith(f"no TOML: {message}")
    assert SECRET not in str(told.value)
