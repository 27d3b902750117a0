"""The words that the page and the terminal share; programs read the names that they stand for."""

from collections.abc import Iterable

LOOKS_COUNTED = "one that is no longer needed counts until its time"
"""What there is to know of how many looks at connections are due."""
WHO_KNOWS_MORE = "refreshd doctor"
"""The command that says what to do."""


def trouble_words(providers: Iterable[str], failing: int, never: int) -> str:
    """Return what is wrong at providers in one line; empty where nothing is, as far as is known.

    Args:
        providers: Those that are down or refuse, or where refreshes fail; the same one may come
            twice.
        failing: How many connections' last refresh failed.
        never: How many connections are never refreshed.
    """
    parts = (
        _many(len(set(providers)), "provider", "in trouble"),
        _many(failing, "connection", "failing"),
        _many(never, "connection", "never refreshed"),
    )
    return ", ".join(filter(None, parts))


def _many(count: int, noun: str, what: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)} {what}" if count else ""


def outcome_words(outcome: str) -> str:
    """Return what became of a refresh, by the class of its failure; any other name as it is."""
    return {
        "user": "grant refused",
        "transient": "passing trouble",
        "operator": "our configuration refused",
        "ambiguous": "unclear answer",
    }.get(outcome, outcome)


def circuit_words(state: str) -> str:
    """Return how a token endpoint that is down stands; any other name as it is."""
    return {"open": "down", "half_open": "being tried"}.get(state, state)
