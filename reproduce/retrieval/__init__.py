"""Retrieval with pretrained CNNs (Ge et al.) on UC Merced and folders like it, and beyond."""
