from django.db import migrations

from django_pgnudge.operations import CreatePublication


class Migration(migrations.Migration):
    dependencies = [
        ("contenttypes", "0001_initial"),
        ("wagtail_site", "0001_initial"),
    ]
    operations = [
        CreatePublication(
            "site",
            models=[
                "wagtailcore.Page",
                "wagtailcore.Site",
                "wagtailcore.Locale",
                "wagtailcore.PageViewRestriction",
                "HomePage",
                "ArticlePage",
                "ArticleTag",
                "Author",
                "Banner",
                "taggit.Tag",
                "contenttypes.ContentType",
            ],
        ),
    ]
