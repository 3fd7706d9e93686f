"""Django's MySQL engine, following a credential."""
