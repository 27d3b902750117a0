"""What the command line is given is JSON that a daemon can be sent, or wrong usage in one line."""

from pathlib import Path

import msgspec
import pytest

from runtime.cli.asking import EXIT_USAGE, CommandError, read_json


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"s3cret",
        b'{"a": "s3cret',
        b'"s3cret \\ud800"',
        b'"s3cret \\ud800\\u0041"',
        b'"s3cret \xff"',
        b'{"s3cret": NaN}',
        b'{"s3cret": Infinity}',
        b'{"s3cret": 1e400}',
        b'{"s3cret": -1e400}',
        b"[" * 100_000,
        b'{"s3cret":' * 100_000,
        b'{"s3cret":' * 50_000 + b"1" + b"}" * 50_000,
        b"\xef\xbb\xbf\x00",
        b"9" * 5000,
    ],
)
def test_what_is_no_json_is_wrong_usage_and_is_not_quoted(tmp_path: Path, text: bytes):
    file = tmp_path / "file"
    file.write_bytes(text)

    with pytest.raises(CommandError) as refused:
        read_json(str(file))

    assert refused.value.code == EXIT_USAGE
    assert str(refused.value) == f"{file}: not JSON"
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "text", [b'{"a": [1.5, null, "\\ud83d\\ude00"]}', b"1e308", b"9" * 30, b"[" * 100 + b"]" * 100]
)
def test_what_is_json_can_be_sent(tmp_path: Path, text: bytes):
    file = tmp_path / "file"
    file.write_bytes(text)

    sent = msgspec.json.encode(read_json(str(file)))

    assert msgspec.json.decode(sent) == msgspec.json.decode(text)


def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path):
    for file, reason in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(CommandError, match=reason) as refused:
            read_json(str(file))
        assert refused.value.code == EXIT_USAGE
