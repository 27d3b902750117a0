"""What a connection remembers of its last commands: bounded, oldest first, the answer as it was."""

from hypothesis import given
from hypothesis import strategies as st

from domain.decision import ConnectionRef, Reply
from domain.remembered import REMEMBERED_MAX, Answers, recalled, remembering
from domain.result import Failure, FailureCode, Success
from tests.domain.shapes import CONNECTION_ID

_replies = st.one_of(
    st.just(Success(None)),
    st.just(Success(ConnectionRef(CONNECTION_ID))),
    st.builds(
        Failure,
        code=st.sampled_from(FailureCode),
        message=st.text(max_size=20),
        needs_user_action=st.sampled_from((None, True, False)),
        retry_after_s=st.sampled_from((None, 1.0)),
    ),
)


@given(st.lists(_replies, max_size=40))
def test_the_last_ones_are_recalled_as_they_were_and_the_older_ones_are_gone(
    replies: list[Reply],
) -> None:
    answers: Answers = ()
    for number, reply in enumerate(replies):
        answers = remembering(answers, number.to_bytes(16), reply)

    assert len(answers) == min(len(replies), REMEMBERED_MAX)
    for number, reply in enumerate(replies):
        is_recent = number >= len(replies) - REMEMBERED_MAX
        assert recalled(answers, number.to_bytes(16)) == (reply if is_recent else None)


def test_the_contract_promises_the_last_16() -> None:
    assert REMEMBERED_MAX >= 16


def test_a_command_without_an_id_is_not_remembered_and_recalls_nothing() -> None:
    answers = remembering((), b"1" * 16, Success(None))

    assert remembering(answers, None, Success(None)) is answers
    assert recalled(answers, None) is None
