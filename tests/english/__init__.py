"""Plain English in help, messages and documentation."""
