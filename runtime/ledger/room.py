"""How much a daemon holds in memory that its views lack, and how much it may."""


class Room:
    """Bytes of groups that are stored and not yet in every view; all partitions together."""

    def __init__(self, bytes_max: int) -> None:
        """Start with nothing held."""
        self.bytes_max = bytes_max
        self.bytes = 0

    @property
    def is_left(self) -> bool:
        """Whether new commands may be decided."""
        return self.bytes < self.bytes_max
