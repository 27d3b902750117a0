"""What changes when a million connections are stored, and are they refreshed in time?

One daemon as a process, with its embedded server, and the fake provider as another; this process
is the load and reads what came of it. In turn: an import by ``refreshd import``, what a refresh
costs next to a daemon with 1,000 stored, how many refreshes nobody asks for are done a second
when all are due at once, how late they are at half of that, how long a stop is felt, and how long
a start and a take-over last.

    python -m bench.scale [--connections N] [--minutes M] [--folder F]

The figures are printed as they come and kept in ``bench/results/scale.json``.
"""
