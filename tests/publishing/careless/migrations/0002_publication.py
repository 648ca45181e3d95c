from django.db import migrations

from django_pgnudge.operations import CreatePublication


class Migration(migrations.Migration):
    dependencies = [("publishing", "0001_initial")]
    operations = [CreatePublication("things", ["Thing", "auth.User.groups"])]
