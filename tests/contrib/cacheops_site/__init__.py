"""A project; see its settings."""
