"""Tokens over REST, and the audit trail of the server itself: for admins."""
