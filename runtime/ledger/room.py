"""What all partitions of a daemon share: how much they may hold, and what they count by."""

from runtime.ledger.provider_names import ProviderNames


class Room:
    """Bytes of groups that are stored and not yet in every view; all partitions together."""

    def __init__(self, bytes_max: int) -> None:
        """Start with nothing held."""
        self.bytes_max = bytes_max
        self.bytes = 0
        self.names = ProviderNames()
