"""What people and machines call: thin layers that parse, call the engine, and print or return."""
