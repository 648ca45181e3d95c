"""An app whose migrations make publications, for `migrate` as users run it."""
