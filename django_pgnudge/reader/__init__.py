"""Cached values that are never stale beyond a lease: what ``nudged`` stands on.

Not called ``nudged``, which is the name of the decorator on the package.

A value's path: users call `decorator`, which makes a `value`. `function_names` and `arguments` name
it. `dependencies` says what it depends on (for a queryset, `queryset_tables`). `protocol` is the
protocol without I/O: `entries` judges what the cache answers, by `lease_clock` and `token_age`, and
`single_flight` lets one caller compute for all. `executor` does what the protocol asks. `bypass`
says when not to use the cache: `session` asks PostgreSQL, `query_watch` sees the queries, and
`scope` names the schemas. `nested` knows which values a computation uses. `keys` names everything
in the cache, for these readers and for the daemon. `state` holds all that a process knows of one
database alias. Pages and fragments are in `django_pgnudge.pages`.
"""
