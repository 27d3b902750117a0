"""Which connections a caller wants listed."""

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.connection import SLUG_PATTERN, ProviderConnection

LIST_LIMIT_DEFAULT = 100
LIST_LIMIT_MAX = 1000


class ListQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which connections, how many, from where on."""

    user_id: UUID | None = None
    provider_slug: Annotated[str, Meta(pattern=SLUG_PATTERN)] | None = None
    status: str | None = None
    cursor: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=LIST_LIMIT_MAX)] = LIST_LIMIT_DEFAULT

    @property
    def is_filtered(self) -> bool:
        """Whether only some connections are asked for."""
        return (self.user_id, self.provider_slug, self.status) != (None, None, None)

    def matches(self, connection: ProviderConnection) -> bool:
        """Whether ``connection`` is asked for."""
        return (
            self.user_id in (None, connection.user_id)
            and self.provider_slug in (None, connection.provider_slug)
            and self.status in (None, connection.status)
        )
