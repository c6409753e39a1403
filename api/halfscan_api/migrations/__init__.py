"""Migrations of the schema; they lie in the package so that a wheel carries them."""
