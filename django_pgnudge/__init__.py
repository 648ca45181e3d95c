"""Cache invalidation for Django, driven by PostgreSQL's write-ahead log."""

__version__ = "0.1.0"
