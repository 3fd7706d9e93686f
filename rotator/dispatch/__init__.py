"""Finds what is due and has it done: by threads of one process, or by the workers of a queue."""
