"""``manage.py runnudge``: reads options, sets up logging and runs the daemon."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from django_pgnudge.checks import TAG
from django_pgnudge.conf.values import PLUGINS
from django_pgnudge.daemon import Daemon
from django_pgnudge.daemon.connect_hints import explain
from django_pgnudge.errors import NotReadyError, PgNudgeError
from django_pgnudge.log import escape, show_lines

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Delete cache keys as PostgreSQL commits."""

    # The checks of the whole site would load all URLs and views before the first key is deleted.
    requires_system_checks = [TAG]
    help = (
        "Follow PostgreSQL's write-ahead log, delete the cache keys that PGNUDGE names for each "
        "changed table, and send signals. Runs until SIGTERM, SIGHUP or Ctrl-C (twice: at once)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database", metavar="ALIAS", help='alias to follow; overrides PGNUDGE["DATABASE"]'
        )
        parser.add_argument(
            "--plugin", choices=PLUGINS, help='output plugin; overrides PGNUDGE["PLUGIN"]'
        )
        parser.add_argument(
            "--publication", metavar="NAME", help='for pgoutput; overrides PGNUDGE["PUBLICATION"]'
        )
        parser.add_argument(
            "--debounce", type=float, metavar="SECONDS",
            help="at most one batch in this time (default: at once when idle)",
        )  # fmt: skip
        parser.add_argument(
            "--failsafe", type=float, metavar="SECONDS",
            help="resync, as after a gap, at least this often (default: never)",
        )  # fmt: skip
        parser.add_argument(
            "--check", action="store_true",
            help="connect to PostgreSQL and the caches, print what would happen, and exit; fails"
            " if the daemon could not work",
        )  # fmt: skip
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", default=30.0,
            help="with --check: how long to wait for each of them (default: 30)",
        )  # fmt: skip

    def handle(self, **options: Any) -> None:
        show_lines(self.stderr, options["verbosity"])
        feed_options = {
            name: options[name] for name in ("debounce", "failsafe") if options[name] is not None
        }
        try:
            daemon = Daemon(
                options["database"], plugin=options["plugin"],
                publication=options["publication"], feed_options=feed_options,
            )  # fmt: skip
            if options["check"]:
                said = asyncio.run(daemon.check(options["timeout"]))
                self.stdout.write("\n".join(map(escape, said.splitlines())))
            else:
                # The objects that exist now stay for good. A garbage collection that visits them
                # all would delay changes.
                gc.collect()
                gc.freeze()
                try:
                    asyncio.run(daemon.run())
                finally:
                    gc.unfreeze()
        except NotReadyError as exc:
            raise CommandError("\n".join(map(escape, str(exc).splitlines()))) from exc
        except (PgNudgeError, ImproperlyConfigured) as exc:
            raise CommandError(escape(explain(exc) or str(exc))) from exc
