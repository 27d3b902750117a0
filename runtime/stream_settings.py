"""How the streams are to be, by the configuration, and that the profiles fit them."""

from runtime.config import Config
from runtime.gateway.wire import body_bytes_max
from runtime.ledger.stream_configs import StreamSettings
from runtime.ledger.streams import Streams, StreamsError
from runtime.provider.held_profiles import Profiles

_RECORD_BYTES = 32 * 1024
"""What a record may hold besides its secret: params, what it remembers, what was wrong last."""


def stream_settings(config: Config) -> StreamSettings:
    """Return how streams that are made now are made."""
    return StreamSettings(
        prefix=config.service.prefix,
        partitions=config.state.partitions,
        replicas=config.nats.replicas,
        record_bytes_max=2 * body_bytes_max(config.service.limits.credential_bytes_max),
        event_age_s_max=config.events.age_s_max,
        event_bytes_max=config.events.bytes_max,
        event_duplicate_window_s=config.events.duplicate_window_s,
    )


def check_answers(profiles: Profiles, streams: Streams) -> None:
    """Refuse a profile that takes answers which no record could hold: their tokens would be lost.

    Raises:
        StreamsError: The text names the setting and how much room there is.
    """
    room_bytes = streams.record_bytes_max - _RECORD_BYTES
    for profile in profiles:
        if profile.answer_bytes_max > room_bytes:
            raise StreamsError(
                f"providers.{profile.slug}.answer_bytes_max is {profile.answer_bytes_max}, but a "
                f"record has room for {room_bytes}: lower it, or raise "
                "service.limits.credential_bytes_max and the buckets' max_msg_size with it"
            )
