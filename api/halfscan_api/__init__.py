"""The REST API of Halfscan: tokens, reconstructions, and what those who run it need."""
