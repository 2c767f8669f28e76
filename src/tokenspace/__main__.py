"""``python -m tokenspace`` is the same as ``tokenspace``."""

from .cli import main

if __name__ == "__main__":
    main()
