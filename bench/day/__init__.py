"""How does a day go for connections whose tokens live half an hour, if it is a bad day?

In virtual time: all of them are imported at once, each daemon is restarted, one after the other,
and in the middle the provider is down. When each is due, what its outcomes make of it, how fast a
daemon may ask and when it may not at all is what ``domain.due``, ``domain.refreshing``,
``domain.verdicts``, ``actors.rate`` and ``actors.circuit`` say, unchanged. A model stands for what
lies between them: requests take 0.2 s, ledger and NATS no time, of those that wait the one whose
token ends first comes first (``actors.turnstile``), and who finds the circuit open is looked at
again as ``actors.looks`` has it. Nobody reads a token.

    python -m bench.day [--connections N] [--hours H] [--outage-hours H] [--daemons D] [--seed S]
"""
