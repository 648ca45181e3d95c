"""``manage.py runnudge``: options, logging, and running the daemon."""

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
    """Kill cache keys as PostgreSQL commits."""

    # Those of the whole site would load its URLs and all views before the first key is deleted.
    requires_system_checks = [TAG]
    help = (
        "Follow PostgreSQL's write-ahead log, delete the cache keys that PGNUDGE names for each "
        "changed table, and send signals. Runs until SIGTERM, SIGHUP or Ctrl-C (twice: at once)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database", metavar="ALIAS", help='alias to follow, over PGNUDGE["DATABASE"]'
        )
        parser.add_argument(
            "--plugin", choices=PLUGINS, help='output plugin, over PGNUDGE["PLUGIN"]'
        )
        parser.add_argument(
            "--publication", metavar="NAME", help='for pgoutput, over PGNUDGE["PUBLICATION"]'
        )
        parser.add_argument(
            "--debounce", type=float, metavar="SECONDS",
            help="at most one batch in this time (default: at once when idle)",
        )  # fmt: skip
        parser.add_argument(
            "--failsafe", type=float, metavar="SECONDS",
            help="clear as after a gap at least this often (default: never)",
        )  # fmt: skip
        parser.add_argument(
            "--check", action="store_true",
            help="connect to PostgreSQL and the caches, say what would happen, and leave; fails"
            " for what would keep it from its work",
        )  # fmt: skip
        parser.add_argument(
            "--timeout", type=float, metavar="SECONDS", default=30.0,
            help="of --check: how long to wait for each of them (default: 30)",
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
                # What is there now stays: a collection that looks at all of it would hold up the
                # changes of its time for longer than they take.
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
