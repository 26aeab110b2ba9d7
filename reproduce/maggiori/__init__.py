"""Maggiori et al. 2017 (IEEE TGRS 55:9), section IV: the comparisons and the figures."""
