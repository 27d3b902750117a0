"""The connection, its state machine and every decision about it, without any I/O."""
