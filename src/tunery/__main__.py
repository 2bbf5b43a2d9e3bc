"""`python -m tunery`, which the MLproject's entry points run."""

from tunery.cli import main

if __name__ == "__main__":
    main()
