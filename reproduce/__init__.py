"""Published experiments done again with geopipe, next to what they compare with."""
