"""Pictures are not what this is about."""

from __future__ import annotations

from typing import Any


class NoThumbnails:
    def generate_thumbnail(self, source: Any, **options: Any) -> Any:
        return source

    def delete_thumbnails(self, source: Any) -> None:
        """There are none."""
