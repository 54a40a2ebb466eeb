"""What the commands of the command line do; `systolith/cli.py` calls them."""
