"""Load the sample data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from shop import sample

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Replace the shop's rows by the sample data."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--if-empty", action="store_true", help="do nothing if there are products already"
        )

    def handle(self, *, if_empty: bool, **options: Any) -> None:
        if if_empty and sample.is_loaded():
            self.stdout.write("The shop has data already; nothing changed.")
            return
        sample.load()
        self.stdout.write(self.style.SUCCESS("The sample data is loaded."))
