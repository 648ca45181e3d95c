"""An app whose receiver does what $RUDE says, and tells on standard output that it did."""
