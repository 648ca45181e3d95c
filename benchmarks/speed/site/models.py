"""One model a table."""

from __future__ import annotations

from django.db import models

from benchmarks.speed.site.tables import TABLES, model_name


def _model(table: str) -> type[models.Model]:
    fields = {
        "id": models.IntegerField(primary_key=True),
        "amount": models.BigIntegerField(),
        "Meta": type("Meta", (), {"db_table": table}),
        "__module__": __name__,
    }
    return type(model_name(table), (models.Model,), fields)


MODELS = [_model(table) for table in TABLES]
