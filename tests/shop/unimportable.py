"""A module that rules name and that cannot be imported."""

raise RuntimeError("not today")
