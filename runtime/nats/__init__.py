"""The way to NATS: the connection, the JetStream API, the embedded server.

The only room that imports nats-py. It imports none of the other rooms; all may use it but
``provider``, which needs none.
"""
