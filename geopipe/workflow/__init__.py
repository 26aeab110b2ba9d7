"""Whole chains, described by a TOML file: steps, resume, report."""
