"""Checkpoint x scene to class maps and scores; class maps x truth to metrics."""
