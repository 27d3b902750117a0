"""What can become of a message or a request, as far as anybody knows."""

NO_ANSWER_IN_TIME = "no answer in time"
"""The text of a ``NoAnswerError`` whose request timed out while the connection was there."""


class LinkError(Exception):
    """A message or request failed; the text is a short cause in words of ours."""


class NotSentError(LinkError):
    """Nothing was sent, so nothing can have happened."""


class TooLargeError(NotSentError):
    """The message is over the server's limit, whoever sends it whenever."""


class NotAllowedError(NotSentError):
    """The server let nobody have it: the user lacks the permission, which the text names."""


class CannotConnectError(LinkError):
    """No server let us in."""


class NobodyListensError(CannotConnectError):
    """No server could be reached: nobody listens there, or nothing leads there."""


class LoginRefusedError(CannotConnectError):
    """A server is there and does not take the user, the password or the key."""


class NoRespondersError(LinkError):
    """The server knew nobody to hand the request to, so nothing has happened."""


class NoAnswerError(LinkError):
    """It was sent and no answer came: what happened is not known."""
