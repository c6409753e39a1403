"""One small reader for each vendor's private attributes."""
