"""Tong et al. 2020 on crops of the Gaofen Image Dataset: patches, segments, transfer."""
