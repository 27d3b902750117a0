"""Tests that take long, and are run where ``LONG_TESTS`` is set."""

import os

import pytest

LONG = pytest.mark.skipif("LONG_TESTS" not in os.environ, reason="takes over 30 s")
