"""`python -m systolith`: the command line, where its script is not on PATH."""

from systolith.cli.app import main

if __name__ == "__main__":
    main()
