"""Figures of a study: SVG for journals and the report, PNG for slides; matplotlib, loaded late."""
