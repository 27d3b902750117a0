"""The verbs that set a daemon up, and need none."""

from typing import Literal

from cyclopts import App

from runtime.cli.check_verb import check_command
from runtime.cli.init_verb import init
from runtime.cli.systemd_unit import systemd_unit


def add_setup_verbs(app: App) -> None:
    """Make the verbs known to the command line."""
    app.command(init)
    app.command(check_command, name="check")
    app.command(systemd_unit, name="systemd-unit")

    @app.command
    def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
        """Print what makes a shell complete refreshd's verbs and options.

        Where each shell looks for it, and the folder to make first, is in docs/command-line.md.

        Parameters
        ----------
        shell
            Which one.
        """
        print(app.generate_completion(prog_name="refreshd", shell=shell), end="")
