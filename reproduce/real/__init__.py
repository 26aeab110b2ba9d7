"""Maps of real places, judged by labels that no training saw."""
