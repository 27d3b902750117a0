"""Why no daemon has answered, told apart by how far a verb got, and what mends that."""

from pathlib import Path
from typing import NamedTuple

from runtime.nats.errors import (
    NO_ANSWER_IN_TIME,
    CannotConnectError,
    LinkError,
    LoginRefusedError,
    NoAnswerError,
    NobodyListensError,
    NoRespondersError,
)


class Whereabouts(NamedTuple):
    """Where a verb looked for the daemon."""

    url: str
    """Of NATS, without any user."""
    prefix: str
    how_to_start: str
    """What to type for a daemon to be there."""
    context: Path | None
    """The file that says where the embedded server is; None: NATS is external."""
    timeout_s: float


class Unreached(NamedTuple):
    """What is wrong, and its mend."""

    text: str
    mend: str


def unreached(error: LinkError, at: Whereabouts) -> Unreached | None:
    """Return what an error says of where the daemon is; None: nothing."""
    match error:
        case LoginRefusedError():
            text = f"{error}: NATS refuses the login"
            mend = f"{at.context} is of another server than listens there; {at.how_to_start}"
            if at.context is None:
                mend = (
                    "look at nats.user and nats.password_file, or at what stands in their place "
                    "(token_file, creds_file, nkey_seed_file, a user in nats.url)"
                )
        case NobodyListensError() if at.context is not None:
            text, mend = f"{error}: no daemon listens there", at.how_to_start
        case NobodyListensError():
            text = f"{error}: no NATS server listens there"
            mend = "start nats-server there, or correct nats.url or --nats"
        case CannotConnectError():
            text = str(error)
            mend = "see whether the NATS server there stands still, and what its log says"
        case NoRespondersError():
            text = f"no daemon answers on {at.prefix}.> at {at.url}"
            mend = f"NATS is there; {at.how_to_start}"
        case NoAnswerError() if str(error) == NO_ANSWER_IN_TIME:
            text = f"{error}: a daemon listens at {at.url} and said nothing for {at.timeout_s:g} s"
            mend = "see whether its process stands still, and its log; --timeout-s waits longer"
        case _:
            return None
    return Unreached(text, mend)
