"""The name of a view, under which its pages and tags are kept, the same in every process.

Views are rarely plain functions. ``as_view()``, ``login_required()`` and other decorators return
closures, and all closures of a factory have the same ``__qualname__``. So a view is named by its
contents, see `content_text`. Two views that differ in anything have different names. A view that is
created again, in another process or for each request, has the same name. A view without a unique
name is called each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django_pgnudge.errors import UnsureError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.pages.responses import named
from django_pgnudge.reader.arguments import digest
from django_pgnudge.reader.content_text import content_digest
from django_pgnudge.reader.function_names import qualified_name

if TYPE_CHECKING:
    from django_pgnudge.pages.inputs import RequestInputs

logger = get_logger("django_pgnudge.nudged")


class ViewName:
    """A view's name: ``str()`` for logs, `full` for keys.

    It is computed at a request, since a closure may still change after it is decorated.
    """

    __slots__ = ("_full", "_view")

    def __init__(self, view: Callable[..., Any]) -> None:
        self._view = view
        self._full: str | None = None

    def __str__(self) -> str:
        kind = getattr(self._view, "view_class", None) or getattr(self._view, "cls", None)
        named = self._view if hasattr(self._view, "__qualname__") else type(self._view)
        return qualified_name(kind or named)

    def __reduce__(self) -> tuple[Any, ...]:
        return ViewName, (self._view,)

    def full(self, known: tuple[object, ...] = ()) -> str:
        """The unique name. Raises UnsureError for a view that has none.

        A view that is created for each request may hold the request: pass it in ``known``, see
        `content_digest`.
        """
        if self._full is None:
            try:
                self._full = f"{self} {content_digest(self._view, known)}"
            except UnsureError as reason:
                raise UnsureError(
                    f"of its view, {reason}. Write a view that makes or imports it, with def at"
                    " module level"
                ) from None
        return self._full


def call_key(
    name: ViewName,
    asked: RequestInputs,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    prefix: str,
    what: str,
) -> str | None:
    """A key of everything that names a view's response except its inputs; None if there is none.

    The address does not determine the arguments: middleware, decorators and views may pass others.
    """
    try:
        given = tuple(_key_of(each, asked, what) for each in (*args, *sorted(kwargs.items())))
        full = name.full(asked.known)
        return digest([full, prefix, named(asked.request), len(args), given], what)
    except Exception as error:  # the arguments' own code runs here
        if may_log(f"arguments {what}"):
            logger.warning("nudged: %s is called each time: %s.", what, str(error).rstrip("."))
        return None


def _key_of(value: object, asked: RequestInputs, what: str) -> str:
    """The key of an argument; for an object of a path converter it may be its content's text."""
    try:
        return digest([value], what)
    except TypeError:
        return content_digest(value, asked.known)
