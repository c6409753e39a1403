"""Inspections: what would happen to a series in the archive, asked and answered."""
