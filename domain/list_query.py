"""Which connections a caller wants listed, and which of one's events."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.connection import SLUG_PATTERN, ProviderConnection

LIST_LIMIT_DEFAULT = 100
LIST_LIMIT_MAX = 1000
HISTORY_LIMIT_DEFAULT = 50
HISTORY_LIMIT_MAX = 100
"""Each event is a request of its own to the stream."""


class ListQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which connections, how many, from where on."""

    user_id: UUID | None = None
    provider_slug: Annotated[str, Meta(pattern=SLUG_PATTERN)] | None = None
    status: str | None = None
    needs_action: bool = False
    """Only those of which ``domain.grant_end.action_needed`` tells; the listing's to look at."""
    cursor: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT

    @property
    def is_filtered(self) -> bool:
        """Whether only some connections are asked for."""
        filters = (self.user_id, self.provider_slug, self.status)
        return self.needs_action or filters != (None, None, None)

    def matches(self, connection: ProviderConnection) -> bool:
        """Whether ``connection`` is asked for, whether it needs anybody to act or not."""
        return (
            self.user_id in (None, connection.user_id)
            and self.provider_slug in (None, connection.provider_slug)
            and self.status in (None, connection.status)
        )


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which events of a connection: the newest ones, or those before a place in the stream."""

    before: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    """A ``cursor``: only events of the stream before this sequence."""
    limit: Annotated[int, Meta(ge=1, le=HISTORY_LIMIT_MAX)] = HISTORY_LIMIT_DEFAULT
