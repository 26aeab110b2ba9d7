"""geopipe: very-high-resolution satellite scenes in, building and road maps out."""

__version__ = "0.1.0"
