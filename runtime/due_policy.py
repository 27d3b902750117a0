"""Which policy says when a connection is due: the profiles', by this version."""

from hashlib import blake2b

import msgspec

from runtime import VERSION
from runtime.ledger.due_scan import DuePolicy
from runtime.provider.held_profiles import Profiles


def due_policy(profiles: Profiles) -> DuePolicy:
    """Return the policy, under a name that no other has."""
    said = msgspec.msgpack.encode((VERSION, list(profiles)))
    return DuePolicy(blake2b(said, digest_size=16).hexdigest(), profiles.get)
