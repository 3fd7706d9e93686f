"""The numbers by which MySQL and MariaDB refuse a login."""

from __future__ import annotations

from typing import Final

# Access denied; the same without a password; account locked (MySQL, MariaDB); locked after failed
# logins; password expired. https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
MYSQL: Final = frozenset({1045, 1698, 3118, 4151, 3955, 1862})
