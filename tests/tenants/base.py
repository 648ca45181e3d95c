"""The backend: each cursor gets the search_path of the tenant that the connection was told."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    include_public_schema = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.schema_name = "public"

    def set_tenant(self, tenant: Any, include_public: bool = True) -> None:
        self.schema_name = tenant.schema_name
        self.include_public_schema = include_public

    def _cursor(self, name: str | None = None) -> Any:
        cursor = super()._cursor(name)  # type: ignore[misc]
        path = [self.schema_name, *(["public"] if self.include_public_schema else [])]
        quoted = ", ".join('"' + each.replace('"', '""') + '"' for each in dict.fromkeys(path))
        assert self.connection is not None
        with self.connection.cursor() as setting:
            setting.execute(f"SET search_path = {quoted}")
        return cursor
