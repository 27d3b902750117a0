"""``python -m runtime`` is ``refreshd``."""

from runtime.cli import main

if __name__ == "__main__":
    main()
