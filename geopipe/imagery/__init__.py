"""Imagery of web services as scenes: what to ask for, and the download."""
