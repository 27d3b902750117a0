"""Everything that touches the world: NATS, disk, time, keys, the command line."""

VERSION = "0.1.0"
"""The version of the daemon, of its service endpoints and of its packages (SemVer 2)."""
