"""What goes wrong at providers, in the words of every screen; machines read other names."""

from collections.abc import Iterable

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
