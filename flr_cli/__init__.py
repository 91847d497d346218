"""The command line of flr."""
