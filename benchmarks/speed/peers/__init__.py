"""The others, one module each."""
