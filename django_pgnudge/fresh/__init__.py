"""Cached values that are never stale beyond a lease: what ``nudged`` stands on.

Not called ``nudged``, which is the name of the decorator on the package.

A value's path: `functions` and `arguments` name it, `dependencies` says what it stands on (for a
queryset `queries`), `personal` whether a fragment may be kept at all, `reading` is the
protocol without I/O (`entries` judges, `flights` keeps a herd away), `driving` does what the
protocol asks, `bypass` says when not to (by what `session` asks and `watching` sees, in the
schemas of `scope`), and `decorator` is what users call. `keys` names everything in the cache, for
these readers and for the daemon.
"""
