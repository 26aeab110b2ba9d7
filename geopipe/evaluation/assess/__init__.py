"""Accuracy and areas of a map from points that an analyst judged (Olofsson et al. 2014)."""
