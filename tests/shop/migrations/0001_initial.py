"""The tables of the test app, and by SQL what migrations cannot make."""

from __future__ import annotations

import uuid

import django.db.models.deletion
from django.db import migrations, models

BY_SQL = """
CREATE SCHEMA stock;
CREATE SCHEMA legacy;
CREATE TABLE legacy.price_list (code varchar(9) PRIMARY KEY);
CREATE TABLE shop_order (
    id integer NOT NULL, placed_on date NOT NULL, PRIMARY KEY (placed_on, id)
) PARTITION BY RANGE (placed_on);
CREATE TABLE shop_order_2025 PARTITION OF shop_order
    FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE shop_order_2026 PARTITION OF shop_order
    FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
    PARTITION BY RANGE (placed_on);
CREATE TABLE shop_order_2026_h1 PARTITION OF shop_order_2026
    FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
"""

UNDO = """
DROP TABLE shop_order;
DROP SCHEMA legacy CASCADE;
DROP SCHEMA stock CASCADE;
"""

CASCADE = """
ALTER TABLE shop_review ADD CONSTRAINT shop_review_cascade
    FOREIGN KEY (product_id) REFERENCES shop_product (id) ON DELETE CASCADE;
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.RunSQL(BY_SQL, UNDO),
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "id",
                        "placed_on",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("id", models.IntegerField()),
                ("placed_on", models.DateField()),
            ],
            options={
                "db_table": "shop_order",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="PriceList",
            fields=[
                ("code", models.CharField(max_length=9, primary_key=True, serialize=False)),
            ],
            options={
                "db_table": '"legacy"."price_list"',
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Awkward",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={
                "db_table": "Preis.Liste, größe: INSERT",
            },
        ),
        migrations.CreateModel(
            name="Category",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=50)),
            ],
        ),
        migrations.CreateModel(
            name="Coupon",
            fields=[
                ("code", models.CharField(max_length=20, primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Day",
            fields=[
                ("date", models.DateField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Flag",
            fields=[
                ("is_set", models.BooleanField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Place",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=50)),
            ],
        ),
        migrations.CreateModel(
            name="Item",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
            ],
            options={
                "db_table": '"stock"."item"',
            },
        ),
        migrations.CreateModel(
            name="Line",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "order_id",
                        "number",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("order_id", models.IntegerField()),
                ("number", models.IntegerField()),
            ],
        ),
        migrations.CreateModel(
            name="Moment",
            fields=[
                ("at", models.DateTimeField(primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Rate",
            fields=[
                (
                    "value",
                    models.DecimalField(
                        decimal_places=2, max_digits=6, primary_key=True, serialize=False
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Token",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
            ],
        ),
        migrations.CreateModel(
            name="Franchise",
            fields=[
                (
                    "place",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        to="shop.place",
                    ),
                ),
                ("code", models.CharField(max_length=9, primary_key=True, serialize=False)),
            ],
            bases=("shop.place",),
        ),
        migrations.CreateModel(
            name="Restaurant",
            fields=[
                (
                    "place_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="shop.place",
                    ),
                ),
                ("pizza", models.BooleanField(default=False)),
            ],
            bases=("shop.place",),
        ),
        migrations.CreateModel(
            name="Product",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", models.CharField(max_length=50)),
                ("price", models.DecimalField(decimal_places=2, default=0, max_digits=9)),
                ("categories", models.ManyToManyField(to="shop.category")),
            ],
        ),
        migrations.CreateModel(
            name="CheapProduct",
            fields=[],
            options={
                "proxy": True,
                "indexes": [],
                "constraints": [],
            },
            bases=("shop.product",),
        ),
        migrations.CreateModel(
            name="Review",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("stars", models.IntegerField()),
                (
                    "product",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to="shop.product"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Bistro",
            fields=[
                (
                    "restaurant_ptr",
                    models.OneToOneField(
                        auto_created=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        parent_link=True,
                        primary_key=True,
                        serialize=False,
                        to="shop.restaurant",
                    ),
                ),
                ("seats", models.IntegerField(default=0)),
            ],
            bases=("shop.restaurant",),
        ),
        migrations.RunSQL(CASCADE, migrations.RunSQL.noop),
    ]
