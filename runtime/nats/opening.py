"""What went wrong while no server had let us in."""


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
        if "authorization" not in self.cause.lower():
            # What comes after a refusal is the server's hanging up.
            self.cause = cause
        is_silent = isinstance(error, OSError) and not isinstance(error, ConnectionResetError)
        self.is_silent = is_silent and (self.is_silent or self._attempts == 0)
        self._attempts += 1

    def is_over(self, servers: int) -> bool:
        """Whether none of so many servers is tried again."""
        return not self.is_patient and self._attempts >= servers

    def lose_patience(self) -> None:
        """Let the next attempt that fails be the last."""
        self.is_patient = False
