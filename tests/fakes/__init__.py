"""Fakes of the ports, trusted because the contract suites run on them too."""
