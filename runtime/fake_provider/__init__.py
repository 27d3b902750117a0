"""A test authorization server that plays every quirk of token endpoints, on loopback."""
