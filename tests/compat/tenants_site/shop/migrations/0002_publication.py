from django.db import migrations

from django_pgnudge.operations import CreatePublication


class Migration(migrations.Migration):
    """Runs in each tenant's schema; the shared table is not one of its app's."""

    dependencies = [("shop", "0001_initial"), ("shared", "0001_initial")]
    operations = [CreatePublication("shops", ["Product", "shared.Plan"])]
