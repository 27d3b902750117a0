"""How much a daemon holds in memory that its views lack, and how much it may."""


class Room:
    """Bytes of groups that are stored and not yet in every view; all partitions together."""

    def __init__(self, bytes_max: int) -> None:
        """Start with nothing held."""
        self.bytes_max = bytes_max
        self.bytes = 0
