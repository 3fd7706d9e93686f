"""Secret backends: where credentials are kept."""
