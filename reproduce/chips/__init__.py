"""Scene classification: the experiments of Iftene et al. and Li et al. on UC Merced."""
