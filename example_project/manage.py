#!/usr/bin/env python
"""The shop's command line: ``manage.py demo`` starts everything it needs."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_site.settings")
    try:
        from django.core.management import execute_from_command_line  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit(
            f"{error}\nInstall the demo's requirements first: python -m pip install -e '.[demo]'"
        ) from error
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
