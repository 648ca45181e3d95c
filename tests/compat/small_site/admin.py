"""The admin of each package."""

from __future__ import annotations

from django.contrib import admin
from mptt.admin import DraggableMPTTAdmin
from simple_history.admin import SimpleHistoryAdmin

from tests.compat.small_site.models import Book, Shelf

admin.site.register(Shelf, DraggableMPTTAdmin)
admin.site.register(Book, SimpleHistoryAdmin)
