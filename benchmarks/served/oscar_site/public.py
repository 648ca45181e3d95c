"""What a shop takes out of its pages so that they are the same for every visitor.

As Oscar comes, a page with a product to buy has a CSRF token, and a product's page sets a cookie
and counts the view in the database. No cache of whole pages can keep these. Here they are left to
a script, for whichever cache.
"""

from __future__ import annotations

from django import template
from django.apps import AppConfig

register = template.Library()


@register.simple_tag
def csrf_token() -> str:
    """In place of Django's tag: a script puts the token there."""
    return ""


class PublicConfig(AppConfig):
    """After Oscar's apps: nobody follows who sees which product."""

    name = "benchmarks.served.oscar_site"
    label = "public"

    def ready(self) -> None:
        from oscar.apps.analytics import receivers as analytics  # noqa: PLC0415
        from oscar.apps.catalogue.signals import product_viewed  # noqa: PLC0415
        from oscar.apps.customer import receivers as customer  # noqa: PLC0415

        for receiver in (analytics.receive_product_view, customer.receive_product_view):
            if not product_viewed.disconnect(receiver):
                raise RuntimeError(f"{receiver} was not connected")
