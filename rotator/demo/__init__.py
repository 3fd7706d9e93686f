"""`rotator demo`: the main job on a real PostgreSQL, with an application that never stops logging in."""
