"""Readers, one module for each family of forms. `rotator.find.registry` knows which reads what."""
