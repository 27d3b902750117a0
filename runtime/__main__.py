"""``python -m runtime`` is ``refreshd``."""

from runtime.cli.main import main

if __name__ == "__main__":
    main()
