"""Exceptions: what they cover, what they may not say, and what they do to a run."""
