"""The command ``jupyter remote``: a subcommand a module."""
