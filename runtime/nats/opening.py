"""What went wrong while no server had let us in."""

from runtime.nats.errors import CannotConnectError, LoginRefusedError, NobodyListensError

_REFUSED = ("authorization violation", "authentication expired", "authentication revoked")


class Opening:
    """The attempts to open one link."""

    def __init__(self, *, is_patient: bool) -> None:
        """Have tried nothing yet; ``is_patient``: try servers that cannot be reached again."""
        self.is_patient = is_patient
        self.cause = ""
        """Of the last attempt that failed; a refusal's stays."""
        self.is_silent = False
        """Whether no server has answered so far."""
        self._attempts = 0

    def failed(self, error: Exception, cause: str) -> None:
        """Note an attempt that failed."""
        if not self.is_refused:
            # What comes after a refusal is the server's hanging up.
            self.cause = cause
        is_silent = isinstance(error, OSError) and not isinstance(error, ConnectionResetError)
        self.is_silent = is_silent and (self.is_silent or self._attempts == 0)
        self._attempts += 1

    @property
    def is_refused(self) -> bool:
        """Whether a server has refused the login."""
        return any(word in self.cause.lower() for word in _REFUSED)

    def is_over(self, servers: int) -> bool:
        """Whether none of so many servers is tried again: not for a login that was refused."""
        return (not self.is_patient or self.is_refused) and self._attempts >= servers

    def error(self, url: str, cause: str) -> CannotConnectError:
        """Return what is told where no server let us in, and no attempt has told why: ``cause``."""
        kind = NobodyListensError if self.is_silent else CannotConnectError
        kind = LoginRefusedError if self.is_refused else kind
        return kind(f"cannot connect to {url}: {self.cause or cause}")

    def lose_patience(self) -> None:
        """Let the next attempt that fails be the last."""
        self.is_patient = False
