"""The command line: parse, call one function, print. Results on stdout, progress on stderr."""

from geopipe.cli.main import main

__all__ = ["main"]
