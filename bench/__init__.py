"""Benchmarks: one question a file, each runnable as ``python -m bench.NAME``."""
