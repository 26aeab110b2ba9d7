"""Finished vectors from class maps: road centre-lines as a graph and as a layer."""
