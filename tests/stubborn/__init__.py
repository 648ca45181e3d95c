"""An app with a receiver that never returns."""
