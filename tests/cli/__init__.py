"""The command line's tests share a plugin whose server lives in memory."""
