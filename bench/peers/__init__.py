"""How else one would do it: the same refreshes by PostgreSQL, Redis locks and an actor library.

Each peer does what the daemon does for a refresh: it decodes and checks the request by the same
types, seals the credentials by the same keyring, stores them durably with two recorded events, and
answers the same bytes. Each is as fast as its users could make it: what a docstring calls *fair*
is where there was a choice. After every stretch of load the database is read, and held to the laws
that the daemon is held to.
"""
