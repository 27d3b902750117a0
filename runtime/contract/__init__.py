"""What is promised on the wire, as documents that other languages read: schemas, AsyncAPI.

Made of the types that decode and encode it. Nothing here runs in a daemon, and only the command
line imports it.
"""
