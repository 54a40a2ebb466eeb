"""`python -m systolith`: the command line, where its script is not on PATH."""

from systolith.cli import main

if __name__ == "__main__":
    main()
