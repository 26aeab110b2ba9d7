"""Accuracy and area estimates from a stratified random sample (Olofsson et al. 2014).

An analyst gives the reference class of each sample point.
"""
