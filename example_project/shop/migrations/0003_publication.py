"""The publication that runnudge reads: the application's own, made here and nowhere else."""

from django.db import migrations

from django_pgnudge.operations import CreatePublication


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_pageview")]

    operations = [
        CreatePublication(
            "shop_nudge",
            models=[
                "shop.Category",
                "shop.Product",
                "shop.Product_categories",
                "shop.Order",
                "shop.OrderLine",
                "shop.PageView",
            ],
        ),
    ]
