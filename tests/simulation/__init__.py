"""Whole clusters on virtual time, their world simulated: one seed decides everything.

Real are ``domain``, ``actors`` and the deciding parts of ``runtime.ledger``; simulated are hosts, the
network, what JetStream keeps, providers and callers. A run has a phase with faults and one without;
what the streams and the provider's book hold is checked after it.

No daemon's code runs in the world's tasks, and nothing of the world depends on real time, on the
order of a set of texts, or on an address in memory: so a seed that fails comes again.
"""
