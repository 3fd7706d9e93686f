"""Who reads a secret: the audit logs of backends, read, matched with the configuration, and counted."""
