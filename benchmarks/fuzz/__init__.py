"""Damaged and hostile files: every reader ends with a result or with an error of geopipe's."""
