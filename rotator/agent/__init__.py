"""The agent: hands the current value of secrets to programs that cannot use the client library.

It renders values, writes files, runs a command with them and serves them on a Unix socket. It reads
backends as an application does: it has no journal and no admin credential.
"""
