"""Requests in, answers out: the service, the bodies of both, the order of answers.

Uses ``runtime.nats``; knows nothing of how things are stored or refreshed.
"""
