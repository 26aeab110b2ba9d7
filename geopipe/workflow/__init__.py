"""Complete workflows, described by a TOML file: steps, resuming, map bundle."""
