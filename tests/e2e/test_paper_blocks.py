"""Every block of shell in the papers runs, and prints what the paper shows."""

from pathlib import Path

import pytest

from tests.fakes.paper_scenes import SCENES
from tests.fakes.paper_shell import is_as_shown, paper_shell, steps


@pytest.mark.parametrize("paper", SCENES)
async def test_a_paper_does_what_it_shows(paper: str, tmp_path: Path):
    scene = SCENES[paper]
    with scene.around() as variables:
        async with paper_shell(tmp_path, *scene.ports, variables=variables) as shell:
            await shell.run(scene.before)
            for script, shown in steps(paper):
                said = await shell.run(script)
                assert shown is None or is_as_shown(said, shown), f"{script}\n{said}"


async def test_a_command_that_fails_ends_a_paper(tmp_path: Path):
    async with paper_shell(tmp_path) as shell:
        with pytest.raises(AssertionError, match="ended in\nfalse"):
            await shell.run("false")


@pytest.mark.parametrize(
    ("said", "shown", "expected"),
    [
        ("ready daemon=d-0a1b2c3d\n", "ready daemon=d-5f0c2a91\n", True),
        ("one  two\n", "one two", True),
        ("first\nsecond\nthird\n", "first\n...\nthird\n", True),
        ("wide and\n  wider\n", "wide and wider\n", True),
        ("asked (now), 0.9/s, 7.0\n", "asked (3 s ago), 0.4/s, 5.0\n", True),
        ("version=0.3.0\n", "version=0.2.0\n", False),
        ("expired\n", "active\n", False),
        ("active\nand more\n", "active\n", False),
        ("", "active\n", False),
    ],
)
def test_what_a_paper_shows_is_loose_in_ids_and_blanks_alone(said: str, shown: str, expected: bool):
    assert is_as_shown(said, shown) is expected
