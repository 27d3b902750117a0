"""Everything that touches the world: NATS, disk, time, keys, the command line.

Each kind of work has a room, whose ``__init__`` states its law; import-linter holds the walls.
On the doorstep lie ``daemon`` (the composition root), ``config``, ``world`` and ``logs`` alone.
"""

VERSION = "0.2.0"
"""The version of the daemon, of its service endpoints and of its packages (SemVer 2)."""
