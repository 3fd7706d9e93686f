"""The configuration's tests share plugins that only declare."""
