"""DESIGN.md sections 2 to 4 as a caller knows them: bodies, answers, events; nothing of ours."""

import json
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from tests.fakes.daemon_process import CREDENTIALS, Answer, PlainCaller

CODES = {
    "INVALID_COMMAND": 400,
    "INVALID_CREDENTIALS": 400,
    "UNKNOWN_PROVIDER": 400,
    "NOT_OWNED_BY_USER": 403,
    "CONNECTION_NOT_FOUND": 404,
    "NOT_ACTIVE": 409,
    "INVALID_TRANSITION": 409,
    "NOT_REFRESHABLE": 409,
    "REAUTH_REQUIRED": 409,
    "TOO_LARGE": 413,
    "OVERLOADED": 429,
    "DATABASE_ERROR": 503,
    "PROVIDER_UNAVAILABLE": 503,
    "PROVIDER_MISCONFIGURED": 503,
    "SHUTTING_DOWN": 503,
    "REFRESH_IN_PROGRESS": 504,
}
VERBS = ("connect", "refresh", "get", "expire", "revoke", "fail", "synced", "disconnect")
Status = Literal["pending", "active", "expired", "revoked", "failed", "disconnected"]
STATUSES: tuple[Status, ...] = (
    *("pending", "active", "expired"),
    *("revoked", "failed", "disconnected"),
)
_MADE_BY = {
    "expired": "expire",
    "revoked": "revoke",
    "failed": "fail",
    "disconnected": "disconnect",
}


class Subject(NamedTuple):
    """A stored connection, its owner and its provider."""

    id: str
    user_id: str
    provider_id: str
    provider_slug: str = "schwab"

    def body(self, verb: str) -> dict[str, Any] | None:
        """Return a body that ``verb`` takes."""
        match verb:
            case "connect":
                about = {"user_id": self.user_id, "provider_id": self.provider_id}
                return about | {"provider_slug": self.provider_slug, "credentials": CREDENTIALS}
            case "refresh":
                return {"credentials": CREDENTIALS}
            case "disconnect":
                return {"user_id": self.user_id}
            case _:
                return None

    def event_data(self) -> dict[str, Any]:
        """Return the fields that all its events have."""
        about = {"user_id": self.user_id, "provider_id": self.provider_id}
        return about | {"connection_id": self.id, "provider_slug": self.provider_slug}


def nobody() -> Subject:
    """Return a connection that nobody has stored."""
    return Subject(str(uuid4()), str(uuid4()), str(uuid4()))


async def stored(caller: PlainCaller, status: Status = "active") -> Subject:
    """Return a connection that was just brought to ``status``."""
    subject = nobody()
    body = subject.body("connect")
    assert body is not None
    if status in ("pending", "failed"):
        body = {k: v for k, v in body.items() if k != "credentials"} | {"pending": True}
    answer = await caller.ask("connect", body | {"connection_id": subject.id})
    assert answer.body["ok"]["connection_id"] == subject.id
    if status in _MADE_BY:
        assert (await tell(caller, subject, _MADE_BY[status])).code == "ok"
    return subject


def connect_value(subject: Subject) -> dict[str, Any]:
    """Return the value of a connect with oauth2 credentials where no provider is configured."""
    slug = subject.provider_slug
    warning = f"no profile is configured for provider {slug}: its tokens will not be refreshed"
    return {"connection_id": subject.id, "warnings": [warning]}


async def tell(caller: PlainCaller, subject: Subject, verb: str, **options: Any) -> Answer:
    """Return the answer to a well-formed command."""
    return await caller.ask(f"connection.{subject.id}.{verb}", subject.body(verb), **options)


def is_refused(answer: Answer, code: str, message: str | None = None, **extra: object) -> bool:
    """Assert that an answer is this failure, in the body and in the headers, and nothing else.

    What it says beside that of this very case, in ``detail``, must begin with what is given.
    """
    error = dict(answer.body["error"])
    assert error.pop("detail", "").startswith(str(extra.pop("detail", "")))
    message = error["message"] if message is None else message
    assert set(answer.body) == {"error"}
    assert error == {"code": code, "message": message} | extra
    assert answer.headers == {
        "Nats-Service-Error": message,
        "Nats-Service-Error-Code": str(CODES[code]),
    }
    return True


def is_by_the_table(answer: Answer) -> bool:
    """Assert that an answer has the one form or the other, with a code that DESIGN.md names."""
    if "ok" in answer.body:
        assert set(answer.body) == {"ok"}
        assert answer.headers == {}
        return True
    error = answer.body["error"]
    assert set(answer.body) == {"error"}
    assert {"code", "message"} <= set(error)
    assert set(error) <= {"code", "message", "needs_user_action", "retry_after_s", "detail"}
    assert answer.headers["Nats-Service-Error-Code"] == str(CODES[error["code"]])
    assert answer.headers["Nats-Service-Error"]
    return True


class StoredEvent(NamedTuple):
    """A message of the stream REFRESHD_EVENTS."""

    subject: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def step(self) -> str:
        """The last two tokens of the subject."""
        return ".".join(self.subject.split(".")[-2:])


async def events_of(caller: PlainCaller, connection_id: str) -> list[StoredEvent]:
    """Return a connection's events so far in stream order, read by a plain consumer."""
    await caller.events_caught_up()
    stream = caller.client.jetstream()
    about = f"refreshd.v1.event.*.{connection_id}.>"
    state = (await stream.stream_info("REFRESHD_EVENTS", subjects_filter=about)).state
    subscription = await stream.subscribe(about, ordered_consumer=True)
    found: list[StoredEvent] = []
    for _ in range(sum((state.subjects or {}).values())):
        message = await subscription.next_msg(timeout=10)
        body = json.loads(message.data)
        found.append(StoredEvent(message.subject, dict(message.headers or {}), body))
    await subscription.unsubscribe()
    return found
