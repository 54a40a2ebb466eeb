"""The command line: `app` reads it, and calls the file that is named as the command."""
