"""A server under everything at once for a while, and what is left of it."""
