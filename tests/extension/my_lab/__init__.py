"""An example of a user's own package: one part of each kind, for docs/extending.md and tests/behaviour."""
