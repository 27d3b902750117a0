"""Which actors stay in memory: the one that was used last at the end, and none for ever."""

from collections import OrderedDict

from actors.connection_actor import ConnectionActor

_PROBES_MAX = 64
"""How many busy actors are passed over in search of an idle one."""

Residents = OrderedDict[int, ConnectionActor]
"""By the number of the id, which hashes faster than the id."""


def forget_idle(actors: Residents, *, idle_s: float, now_s: float) -> None:
    """Forget those that were not used for ``idle_s``; all that they knew is stored."""
    while actors:
        actor = next(iter(actors.values()))
        if actor.used_s > now_s - idle_s:
            return
        _passed_over(actors, actor, now_s)


def has_room(actors: Residents, *, actors_max: int, now_s: float) -> bool:
    """Whether one more may come, an idle one having been forgotten for it."""
    if len(actors) < actors_max:
        return True
    return any(
        _passed_over(actors, next(iter(actors.values())), now_s)
        for _ in range(min(_PROBES_MAX, len(actors)))
    )


def _passed_over(actors: Residents, actor: ConnectionActor, now_s: float) -> bool:
    """Forget the first actor if it is idle; else keep it a while."""
    if actor.is_busy:
        actors.move_to_end(actor.connection_id.int)
        actor.used_s = now_s
        return False
    del actors[actor.connection_id.int]
    return True
