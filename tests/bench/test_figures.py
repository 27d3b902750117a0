"""The README says what the benchmark has recorded."""

from bench.readme import README, with_figures
from bench.results import read_results


def test_the_readme_has_the_figures_of_the_recorded_run() -> None:
    text = README.read_text()

    assert text == with_figures(text, read_results())
