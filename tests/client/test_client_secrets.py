"""No secret shows in what a client holds, raises or logs."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
from refreshd_client import AccessToken, Credentials, Refreshd, RefreshdError
from refreshd_client.asking import _decoded
from refreshd_client.errors import NotConnectedError, error_of
from refreshd_client.places import options_of
from rich.pretty import pretty_repr

pytestmark = pytest.mark.anyio
CANARY = "canary-8c1f"
TOKEN = AccessToken(
    access_token=CANARY, token_type="Bearer", expires_at=None, generation=7, stale=False
)


@pytest.mark.parametrize(
    "carrier",
    [
        TOKEN,
        Credentials(secret={"access_token": CANARY}),
        Credentials(encrypted_data=CANARY.encode()),
        Credentials.from_token_response({"access_token": CANARY}),
        Refreshd(f"nats://user:{CANARY}@127.0.0.1", password=CANARY),
    ],
    ids=["token", "secret", "sealed", "answer", "client"],
)
def test_what_holds_a_secret_does_not_show_it(carrier: object):
    for shown in (repr(carrier), str(carrier), f"{carrier}", pretty_repr(carrier)):
        assert CANARY not in shown


def test_a_token_shows_which_it_is():
    assert "generation=7" in repr(TOKEN)
    assert str(TOKEN) == repr(TOKEN)


@pytest.mark.parametrize(
    "answer",
    [
        f'{{"ok":{{"access_token":"{CANARY}"}}}}',
        f'{{"ok":{{"access_token":"{CANARY}","token_type":1}}}}',
        f"{CANARY}",
        f'{{"{CANARY}":1}}',
        f'{{"error":"{CANARY}"}}',
        f'{{"error":{{"code":["{CANARY}"]}}}}',
        f'["{CANARY}"]',
        "",
    ],
)
def test_an_answer_that_cannot_be_read_is_told_and_not_quoted(answer: str):
    with pytest.raises(RefreshdError) as told:
        _decoded(answer.encode(), AccessToken)

    assert str(told.value) == "the answer is not refreshd's"
    assert told.value.__cause__ is None
    assert told.value.__suppress_context__


@pytest.mark.parametrize("text", [CANARY, f'{{"url":["{CANARY}"]}}', f'"{CANARY}"'])
def test_a_file_that_is_no_context_is_named_and_not_quoted(tmp_path: Path, text: str):
    path = tmp_path / "context.json"
    path.write_text(text)

    with pytest.raises(NotConnectedError, match="is no NATS context") as told:
        options_of(path)

    assert CANARY not in str(told.value)
    assert told.value.__suppress_context__


async def test_a_server_that_cannot_be_reached_is_told_of_without_the_password():
    where = f"nats://user:{CANARY}/@127.0.0.1:1,nats://127.0.0.1:2/?x=1"
    client = Refreshd(where, timeout_s=0.2)

    with pytest.raises(NotConnectedError) as told:
        await client.open()

    assert CANARY not in str(told.value)
    assert "to NATS at nats://127.0.0.1:1, nats://127.0.0.1:2: " in str(told.value)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, lambda one: pickle.loads(pickle.dumps(one))],  # noqa: S301 -- our own
)
def test_an_error_goes_to_another_process_with_all_that_it_says(copied: Any):
    error = error_of(
        "REAUTH_REQUIRED", "dead", needs_user_action=True, retry_after_s=None, detail="d"
    )
    error.message_id = "m1"

    told = copied(error)

    assert type(told) is type(error)
    assert vars(told) == vars(error)
    assert str(told) == "REAUTH_REQUIRED: dead: d"
