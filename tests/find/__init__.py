"""Tests of the search for hard-coded passwords."""
