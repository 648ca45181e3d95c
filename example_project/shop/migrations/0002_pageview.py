"""A table partitioned by quarter, with a default partition for every other day."""

from django.db import migrations, models

QUARTERS = [
    ("2026q3", "2026-07-01", "2026-10-01"),
    ("2026q4", "2026-10-01", "2027-01-01"),
    ("2027q1", "2027-01-01", "2027-04-01"),
]

CREATE = (
    "CREATE SEQUENCE shop_pageview_id_seq",
    """
    CREATE TABLE shop_pageview (
        id bigint NOT NULL DEFAULT nextval('shop_pageview_id_seq'),
        viewed_on date NOT NULL,
        path varchar(120) NOT NULL,
        PRIMARY KEY (id, viewed_on)
    ) PARTITION BY RANGE (viewed_on)
    """,
    "ALTER SEQUENCE shop_pageview_id_seq OWNED BY shop_pageview.id",
    *(
        f"CREATE TABLE shop_pageview_{name} PARTITION OF shop_pageview"
        f" FOR VALUES FROM ('{first}') TO ('{after}')"
        for name, first, after in QUARTERS
    ),
    "CREATE TABLE shop_pageview_other PARTITION OF shop_pageview DEFAULT",
)


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]

    operations = [
        migrations.RunSQL(CREATE, "DROP TABLE shop_pageview"),
        migrations.CreateModel(
            name="PageView",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "id",
                        "viewed_on",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(
                            models.Value("shop_pageview_id_seq"), function="nextval"
                        )
                    ),
                ),
                ("viewed_on", models.DateField()),
                ("path", models.CharField(max_length=120)),
            ],
            options={"db_table": "shop_pageview", "managed": False},
        ),
    ]
