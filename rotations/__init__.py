"""Rotation plugins: one for each kind of target. They import `rotator.api` and their driver only."""
