"""The project whose cache is tried: one table, one rule, two nudged functions."""
