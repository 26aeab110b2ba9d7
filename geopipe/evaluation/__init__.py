"""Map accuracy: class maps against ground truth, and design-based estimates from sample points."""
