"""The file that `rotator agent init` writes."""

from __future__ import annotations

from typing import Final

TEXT: Final = """\
# What the applications of this host consume: read by `rotator agent run` and `rotator exec`.
# This file contains no secrets, only references to them: env:NAME or file:PATH.
version: 1

# The backend, as in rotator.yaml, with the read access of an application.
backend:
  type: vault
  address: https://vault.example.org:8200
  mount: secret
  auth: {method: approle, role_id: shop, secret_id: file:secret-id}

# refresh: 30s                      # longest time between two reads of a secret

# The daemon announces new versions at once, and knows which version is in use here.
# daemon:
#   url: https://rotator.example.org:8443
#   token: file:token
#   ca_file: ca.pem

# Applications ask here: curl --unix-socket /run/rotator/agent.sock http://agent/v1/secrets/shop
# socket: {path: /run/rotator/agent.sock, mode: '0660', group: shop, users: [shop]}

# The Kubernetes API, for sinks of that name. Default: that of the pod in which the agent runs.
# kubernetes: {kubeconfig: /etc/rotator/kubeconfig, context: production, namespace: shop}

secrets:
  shop:
    path: apps/shop                 # in the backend; default: the name
    sinks:
      - file: /run/shop/db.env
        format: env                 # env, systemd, dotenv, json, yaml, pgpass, my.cnf, ini, userlist, url, template
        options: {variables: {PGUSER: '{username}', PGPASSWORD: '{password}'}}
        # owner: shop
        # group: shop
        # mode: '0640'
        # reload: {systemd: shop.service}   # or signal and pid_file, command, http, pgbouncer
        # check: [/usr/local/bin/shop, --check-database]
      # Several files that change together: /run/shop/db is a symbolic link.
      # - folder: /run/shop/db
      #   files: {db.json: {format: json}, pgpass: {format: pgpass}}
      # A Secret object, and the workloads that restart where they read it only at their start.
      # - kubernetes:
      #     secret: shop-db
      #     namespace: shop
      #     keys: {username: '{username}', password: '{password}'}
      #     deployments: [shop-web]     # also statefulsets, daemonsets
      #     restart: auto               # auto, always, never
      #     every: 10m                  # shortest time between two restarts of a workload
      #     wait: 10m                   # longest time of a rollout
"""
