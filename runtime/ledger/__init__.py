"""What is stored: connections, events, the streams' settings, sealing, listing.

Uses ``runtime.nats``; knows nothing of requests, providers or the command line.
"""
