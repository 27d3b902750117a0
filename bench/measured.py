"""What one stretch of load came to, whoever took it."""

import msgspec


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One row in one round. CPU is in microseconds per operation, None where nobody has any."""

    rate: float
    """Operations per second."""
    p50_ms: float
    p99_ms: float
    load_us: float | None = None
    """The load's; an in-process peer is its own load, and all of it counts as ``daemon_us``."""
    daemon_us: float | None = None
    """refreshd's, or that of the peer which takes its place."""
    server_us: float | None = None
    """nats-server's."""
    database_us: float | None = None
    peak_mib: float | None = None
    """The largest resident sets of whoever does the work, together; without the load's."""
