"""The report for an auditor: what the journal proves about a period, and what it does not cover."""
