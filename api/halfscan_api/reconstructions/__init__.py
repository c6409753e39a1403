"""Reconstructions: the queue of series, and what became of each."""
