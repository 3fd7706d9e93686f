"""Finds hard-coded database passwords in files and in Git history, by structure and never by entropy."""
