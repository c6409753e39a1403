"""Readings: one reader, one case, one arm; scores and findings; nothing that tells which arm."""
