"""The pure heart: words, rules and contracts. Standard library only, no input or output."""
