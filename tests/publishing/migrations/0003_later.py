from django.db import migrations, models

from django_pgnudge.operations import AddToPublication, RemoveFromPublication


class Migration(migrations.Migration):
    dependencies = [("publishing", "0002_publication"), ("auth", "0001_initial")]
    operations = [
        migrations.CreateModel(
            "Later",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.CharField(max_length=50)),
            ],
        ),
        AddToPublication("things", ["Later", "auth.User", "auth.User.groups"]),
        RemoveFromPublication("things", ["publishing.Thing.others"]),
    ]
