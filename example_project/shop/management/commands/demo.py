"""``manage.py demo``: the whole shop in one command, and nothing left when it ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from servers.process import ServerFailedError
from shop_site.state import VARIABLE, State, StateBusyError
from shop_site.supervisor import Demo, DemoFailedError

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Start PostgreSQL, Redis, runnudge and the site, and stop them all on Ctrl-C."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port", type=int, default=8000, help="the site's port (0: any free one)"
        )
        parser.add_argument(
            "--postgres",
            type=int,
            metavar="16|18",
            help="PostgreSQL's major version (default: the newest)",
        )
        parser.add_argument(
            "--state", help=f"the state folder (default: ${VARIABLE}, or {settings.STATE.path})"
        )
        parser.add_argument("--reset", action="store_true", help="begin with empty servers")

    def handle(
        self, *, port: int, postgres: int | None, state: str | None, reset: bool, **options: Any
    ) -> None:
        if not 0 <= port <= 65535:
            raise CommandError(f"--port {port}: a port is a number from 0 to 65535")
        folder = State(Path(state).expanduser().absolute()) if state else settings.STATE
        os.environ[VARIABLE] = str(folder.path)
        demo = Demo(folder, port=port, postgres=postgres, say=self._say)
        try:
            demo.run(reset=reset)
        except (DemoFailedError, ServerFailedError, StateBusyError) as error:
            raise CommandError(str(error)) from error
        self._say(f"Everything is stopped. The data stay in {folder.path}; --reset begins anew.")

    def _say(self, text: str) -> None:
        # A closed terminal is told nothing, and is no reason to leave a server behind.
        with contextlib.suppress(OSError):
            self.stdout.write(text)
            self.stdout.flush()
