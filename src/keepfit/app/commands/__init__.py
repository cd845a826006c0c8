"""Commands: those of the command line that have a file of their own; `app/cli.py` registers them."""
