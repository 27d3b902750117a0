"""A test authorization server that plays every quirk of token endpoints, on loopback.

Usable by others: of refreshd it imports ``domain`` and nothing else.
"""
