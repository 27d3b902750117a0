"""What a daemon shows over HTTP: health, metrics, the status page. Read-only.

It imports no other room: ``runtime.watching`` brings plain values. Whoever asks waits; the daemon
never waits for who asks.
"""
