"""The app, under a name of its own."""

from __future__ import annotations

from django.apps import AppConfig

from benchmarks.speed.site.tables import APP


class SiteConfig(AppConfig):
    name = "benchmarks.speed.site"
    label = APP
