"""Measurements: mean and standard deviation in a region, and the SNR that follows."""
