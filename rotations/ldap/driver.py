"""ldap3, imported without the warnings of pyasn1 about names that ldap3 still asks it for."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from ldap3 import (
        BASE,
        MODIFY_ADD,
        MODIFY_DELETE,
        MODIFY_REPLACE,
        NONE,
        SIMPLE,
        SUBTREE,
        Connection,
        Server,
        Tls,
    )
    from ldap3.core import results
    from ldap3.core.exceptions import LDAPException, LDAPInvalidDnError
    from ldap3.utils.conv import escape_filter_chars
    from ldap3.utils.dn import escape_rdn, parse_dn

__all__ = [
    "BASE",
    "MODIFY_ADD",
    "MODIFY_DELETE",
    "MODIFY_REPLACE",
    "NONE",
    "SIMPLE",
    "SUBTREE",
    "Connection",
    "LDAPException",
    "LDAPInvalidDnError",
    "Server",
    "Tls",
    "escape_filter_chars",
    "escape_rdn",
    "parse_dn",
    "results",
]
