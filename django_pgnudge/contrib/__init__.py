"""Apps that tell other packages' caches of changes in the log: the last hop, beside the signals.

Each stands in ``INSTALLED_APPS`` next to the package's own app, and needs nothing else.
"""
