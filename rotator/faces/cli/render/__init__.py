"""How answers look: on a terminal, piped, and as JSON."""
