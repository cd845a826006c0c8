"""Commands: groups of verbs of the command line, each in a file of its own."""
