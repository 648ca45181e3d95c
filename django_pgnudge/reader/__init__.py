"""Cached values that are never stale beyond a lease: what ``nudged`` stands on.

Not called ``nudged``, which is the name of the decorator on the package.

A value's path: `decorator` is what users call, for one `value`. `function_names` and `arguments`
name it. `dependencies` says what it depends on (for a queryset, `queryset_tables`). `protocol` is
the protocol without I/O: `entries` says what an answer of the cache is worth, and `single_flight`
lets one caller compute for all. `executor` does what the protocol asks. `bypass` says when not to
use the cache, by what `session` asks and `query_watch` sees, in the schemas of `scope`. `keys`
names everything in the cache, for these readers and for the daemon. Pages and fragments are in
`django_pgnudge.pages`.
"""
