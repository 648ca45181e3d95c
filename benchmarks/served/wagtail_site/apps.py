"""Named, as the label must not be that of another site."""

from __future__ import annotations

from django.apps import AppConfig


class DemoConfig(AppConfig):
    name = "benchmarks.served.wagtail_site"
    label = "demo"
