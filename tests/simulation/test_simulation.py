"""A cluster keeps every law of ``checks`` whatever a seed does to it, and a seed comes again."""

import hashlib
import os
import subprocess
import sys

import pytest

from tests.simulation.run import run

_CHUNKS, _SEEDS = 8, 25


@pytest.mark.timeout(300)
@pytest.mark.parametrize("chunk", range(_CHUNKS))
def test_every_law_is_kept(chunk: int) -> None:
    for seed in range(chunk * _SEEDS, (chunk + 1) * _SEEDS):
        played = run(seed)

        assert not played.broken, str(played)


@pytest.mark.parametrize("seed", [3, 14])
def test_a_seed_plays_the_same_in_another_process_with_other_hashes(seed: int) -> None:
    here = hashlib.sha256(f"{run(seed)}\n".encode()).hexdigest()

    played = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        stdout=subprocess.PIPE,
        check=False,
    )

    assert hashlib.sha256(played.stdout).hexdigest() == here


def test_different_seeds_play_differently() -> None:
    assert run(3).history != run(4).history
