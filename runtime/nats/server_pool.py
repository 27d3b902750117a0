"""The servers that a client may go on with: those it was given, and those they tell of.

nats-py takes a server that is given with a user and told of without one for two, sends no user to
the second, never forgets one that its cluster has lost, and may begin with the one just lost.
"""

import random
from collections.abc import Collection, Sequence

from nats.aio.client import Srv


def known_servers(pool: Sequence[Srv], told: Collection[str]) -> list[Srv]:
    """Return the pool, in its order, without doubles and without what its cluster has lost.

    Args:
        pool: Servers that were given, and discovered ones, which get the user of the first given
            one that has one.
        told: Host and port of each that the cluster has now.
    """
    given = [server for server in pool if not server.discovered]
    user = next((_user(server) for server in given if _user(server)), "")
    places = {_place(server) for server in given}
    known: list[Srv] = []
    for server in pool:
        if server.discovered:
            if _place(server) in places or _place(server) not in told:
                continue
            places.add(_place(server))
            if not _user(server):
                server.uri = server.uri._replace(netloc=user + server.uri.netloc)
        known.append(server)
    return known


def others_first(pool: Sequence[Srv], lost: Srv | None) -> list[Srv]:
    """Return the pool in any order, but with the server that was just lost at its end."""
    others = random.sample(pool, len(pool))
    return sorted(others, key=lambda server: server is lost)


def _place(server: Srv) -> str:
    """Return host and port."""
    return server.uri.netloc.rpartition("@")[2]


def _user(server: Srv) -> str:
    """Return user and password with the @ behind them, or nothing."""
    return "".join(server.uri.netloc.rpartition("@")[:2])
