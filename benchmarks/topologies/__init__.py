"""The caches that sites have, each with a `runnudge`, a writer and readers: what is stale, and how
often a read is a hit.
"""
