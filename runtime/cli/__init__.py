"""The command line: one module per family of verbs, the client they share, the demo.

Speaks to a daemon over NATS, as any client does. The only room that may import
``runtime.daemon``, to serve.
"""
