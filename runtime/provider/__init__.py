"""Everything about one HTTP exchange with a token endpoint: profiles, requests, discovery.

Uses no NATS, and knows nothing of what is stored or asked.
"""
