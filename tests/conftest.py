"""The fixtures, by resource: each file says what it offers."""

pytest_plugins = (
    "tests.fix_servers",
    "tests.fix_django",
    "tests.fix_proxy",
    "tests.fix_tls",
    "tests.fix_loop",
    "tests.fix_example",
    "tests.fix_nudged",
    "django_pgnudge.testing",
)
