"""``python -m runtime`` is ``refreshd``."""

import os
import signal


def run() -> None:
    """Run the command line; Ctrl-C ends it without a word also while it is still imported."""
    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    from runtime.cli.main import main  # noqa: PLC0415 -- it takes a second or two

    if is_usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    run()
