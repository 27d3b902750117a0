"""A client, the daemon that it asks, and the provider that has issued the grants."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from refreshd_client import Credentials, Refreshd

from runtime.fake_provider.grants import Issued, RevocationCause
from runtime.fake_provider.provider import FakeProvider
from tests.fakes.daemon_process import DaemonProcess, PlainCaller

USER_ID = UUID("7f9c24e8-3b12-4f0a-9d56-1c2b3a4d5e6f")
PROVIDER_ID = UUID("0b8f6c1e-5a7d-4c3b-8e2f-9a1b2c3d4e5f")


@dataclass(frozen=True)
class ClientScene:
    """What a test of the client is about."""

    daemon: DaemonProcess
    provider: FakeProvider
    refreshd: Refreshd
    caller: PlainCaller
    """Somebody else, without the client."""

    async def connected(self, *, lives_s: float = 3600.0) -> tuple[str, Issued]:
        """Return the id of a new connection, and its grant."""
        grant = self.provider.create(expires_in=lives_s)
        connection_id = str(uuid4())
        await self.connect(connection_id, grant, lives_s=lives_s)
        return connection_id, grant

    async def connect(self, connection_id: str, grant: Issued, *, lives_s: float = 3600.0) -> None:
        """Connect, or connect again, with a grant."""
        await self.refreshd.connect(
            connection_id=connection_id,
            user_id=USER_ID,
            provider_id=PROVIDER_ID,
            provider_slug="fake",
            credentials=credentials_of(grant, lives_s=lives_s),
        )

    def revoke(self, grant: Issued) -> None:
        """End a grant at the provider, as its user can."""
        found = self.provider.book.get(grant.grant_id)
        assert found is not None
        self.provider.book.revoke(found, RevocationCause.ADMIN)

    async def outcomes(self, connection_id: str) -> list[str]:
        """Return the outcomes of its refreshes so far, in order."""
        await self.caller.events_caught_up()
        subjects = [event["_subject"] for event in await self.caller.told(connection_id)]
        return [one.rpartition(".")[2] for one in subjects if ".token_refresh." in one]


def credentials_of(grant: Issued, *, lives_s: float = 3600.0) -> Credentials:
    """Return what the provider has issued."""
    return Credentials(
        secret={"access_token": grant.access_token, "refresh_token": grant.refresh_token},
        expires_at=datetime.now(UTC) + timedelta(seconds=lives_s),
    )
