"""From ``schema.table`` to models: the hop between the feed and the rules.

`models` reads Django's app registry. `catalog` reads schemas, partitions and keys from PostgreSQL.
`row_keys` turns keys of rows into those of other tables and into values of models. `published`
reads publications.
"""

from __future__ import annotations

from django_pgnudge.registry.labels import split_db_table
from django_pgnudge.registry.models import Registry

__all__ = ["Registry", "split_db_table"]
