"""Checks of the stream's health."""
