"""Change detection between vectors: a map against OpenStreetMap, or maps of two dates."""
