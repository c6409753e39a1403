"""Enrolment from the archive: which series are the two arms of a case, told from their headers."""
