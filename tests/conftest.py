"""The fixtures, by resource: each file says what it offers."""

import signal

# A shell that starts the tests in the background has them ignore these, and so would every process
# that they start and then interrupt.
for _number, _usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

pytest_plugins = (
    "tests.fix_servers",
    "tests.fix_caches",
    "tests.fix_django",
    "tests.fix_proxy",
    "tests.fix_tls",
    "tests.fix_log",
    "tests.fix_loop",
    "tests.fix_clients",
    "tests.fix_example",
    "tests.fix_nudged",
    "django_pgnudge.testing",
)
