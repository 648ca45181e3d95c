"""A view set below `nudged_page`, a tree, and what was."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from rest_framework import serializers, viewsets
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.decorators import action
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter

from django_pgnudge import nudged_page
from tests.compat.pages import counted
from tests.compat.small_site.models import Book, Shelf

TABLES = (Book, Shelf, "small_site.Book.readers", "auth.User")


class BookSerializer(serializers.ModelSerializer[Book]):
    class Meta:
        model = Book
        fields: ClassVar = ["id", "title", "shelf", "readers"]


@method_decorator([nudged_page(600, *TABLES), counted], name="list")
@method_decorator([nudged_page(600, *TABLES), counted], name="retrieve")
class BookViewSet(viewsets.ModelViewSet[Book]):
    queryset = Book.objects.order_by("pk")
    serializer_class = BookSerializer
    authentication_classes: ClassVar = [BasicAuthentication, SessionAuthentication]

    @action(detail=False)
    def mine(self, request: Any) -> Response:
        return Response([request.user.username])


class WholePageViewSet(BookViewSet):
    """The same, with the decorator around the view that the router makes."""


def tree(request: Any) -> HttpResponse:
    nodes = Shelf.objects.order_by("tree_id", "lft")
    lines = [[node.name, node.level, node.get_descendant_count(),
              [each.name for each in node.get_ancestors()]] for node in nodes]  # fmt: skip
    return JsonResponse(lines, safe=False)


def history(request: Any, pk: int) -> HttpResponse:
    was = Book.history.filter(id=pk).order_by("history_id")
    return JsonResponse([[each.title, each.history_type] for each in was], safe=False)


def kept(*tables: Any) -> Any:
    return lambda view: nudged_page(600, *tables)(counted(view))


router = DefaultRouter()
router.register("books", BookViewSet)

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include(router.urls)),
    path("whole/", kept(*TABLES)(WholePageViewSet.as_view({"get": "list"}))),
    path("tree/", kept(Shelf)(tree)),
    path("history/<int:pk>/", kept("small_site.HistoricalBook")(history)),
]
