"""The configuration that `rotator init` writes: valid as it stands, with an example to fill in."""

from __future__ import annotations

from typing import Final

TEMPLATE: Final = """\
# The configuration of rotator. It holds references to secrets, never a secret itself:
#   env:NAME   file:PATH   BACKEND:PATH#FIELD (such as local:admin/main#password)
# Is it right?  rotator check      Would it work?  rotator doctor
version: 1

# The audit journal: what has happened, append-only and chained. SQLite, or PostgreSQL when
# several machines share it:  postgresql://rotator@db.example.org/rotator
journal:
  url: sqlite:///rotator.db
  # Signs the journal's checkpoints, so that a cut or rewritten journal is found.
  signing_key: local:rotator/audit#private_key

# Where secrets are kept. `local` is one file of encrypted values beside this one.
# Other kinds and their options:  rotator plugins
backends:
  local:
    type: local
    path: rotator-secrets.db
    key: file:rotator.key

# The systems that accept the credentials, each with an admin login of ours.
targets: {}
# targets:
#   main:
#     plugin: postgresql
#     options:
#       host: db.example.org
#       dbname: app
#     admin:
#       username: rotator_admin
#       password: env:ROTATOR_ADMIN_PASSWORD

# How secrets are rotated, unless they say otherwise.
policies:
  default:
    # The period; `never`: only on demand.
    every: 30d
    # How long the old credential stays valid after the new one is published.
    grace: 24h

# The managed credentials.
secrets: {}
# secrets:
#   app-db:
#     target: main
#     backend: local
#     # new-user: a fresh login each time, in a group role that owns the objects.
#     # alternating-users: two logins taking turns.  single-user: the password changes in place.
#     strategy: new-user
#     options:
#       group: app
#     tags: [billing]
"""
