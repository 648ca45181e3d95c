"""What happens on a site with tenants."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache, caches
from django.core.management import call_command
from django.db import connection
from django_tenants.utils import schema_context

from tests.compat.tenants_site.shared.models import Client, Domain, Plan
from tests.compat.tenants_site.shop.models import Product
from tests.compat.tenants_site.urls import total


def build() -> None:
    call_command("migrate_schemas", shared=True, verbosity=0, interactive=False)
    Domain.objects.create(
        domain="public", tenant=Client.objects.create(schema_name="public", name="public")
    )
    Plan.objects.create(price=1)
    for name in ("acme", "umbrella"):
        add_tenant(name)


def add_tenant(name: str) -> None:
    """As a site does it when somebody signs up: the schema is made and migrated."""
    with schema_context("public"):
        tenant = Client(schema_name=name, name=name)
        tenant.save(verbosity=0)
        Domain.objects.create(domain=f"{name}.test", tenant=tenant)
    with schema_context(name):
        Product.objects.create(name=f"{name}'s", price=1)


def drop_tenant(name: str) -> None:
    with schema_context("public"):
        Client.objects.get(schema_name=name).delete(force_drop=True)


def published() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname || '.' || tablename FROM pg_publication_tables"
            " WHERE pubname = 'shops' ORDER BY 1"
        )
        return [row[0] for row in cursor.fetchall()]


def migrate(schema: str, name: str) -> None:
    call_command("migrate_schemas", "shop", name, schema_name=schema, verbosity=0,
                 interactive=False)  # fmt: skip


def raise_price(name: str) -> None:
    with schema_context(name):
        for product in Product.objects.all():
            product.price += 1
            product.save()


def raise_plans() -> None:
    for plan in Plan.objects.all():
        plan.price += 1
        plan.save()


def totals(*names: str) -> list[int]:
    found = []
    for name in names:
        with schema_context(name):
            found.append(total())
    return found


def fill(*names: str) -> None:
    """Keys of each tenant, as a site would write them."""
    cache.set_many({f"{name}:{key}": 1 for name in names for key in ("products", "product:1")})
    cache.set("plans", 1)
    for name in names:
        with schema_context(name):
            caches["own"].set_many({"products": 1, "product:1": 1, "product:2": 1, "plans": 1})


def left(*names: str) -> dict[str, list[str]]:
    """What is still there, of each tenant in its own cache and of all in the common one."""
    keys = [f"{name}:{key}" for name in names for key in ("products", "product:1")]
    found = {"": sorted(cache.get_many([*keys, "plans"]))}
    for name in names:
        with schema_context(name):
            own = caches["own"].get_many(["products", "product:1", "product:2", "plans"])
            found[name] = sorted(own)
    return found


def heard(forget: bool) -> dict[str, Any]:
    found = {name: cache.get(name, []) for name in ("heard", "heard of")}
    if forget:
        cache.delete_many(["heard", "heard of"])
    return found
