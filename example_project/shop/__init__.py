"""A small shop that caches what it reads, and never deletes a cache key itself."""
