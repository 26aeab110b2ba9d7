"""Accuracy of maps: against ground truth that covers them, and from samples of points."""
