"""Formats answers: for a terminal, for a pipe, and as JSON."""
