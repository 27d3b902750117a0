"""Everything that is stored, in one sealed file, and back again.

Secrets are in the clear between keyring and age here, in memory alone, and nowhere else. May use
every room but the gateway's endpoints; nobody but the command line comes in.
"""
