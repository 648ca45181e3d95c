"""values: what is named by tables that were read in one epoch is not kept in the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_pgnudge import nudged
from django_pgnudge.reader.executor import run
from django_pgnudge.reader.protocol import Make, Read, read
from django_pgnudge.reader.single_flight import flights
from django_pgnudge.reader.value import NudgedOptions, Value
from tests.fix_nudged import asking_postgres
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from django_pgnudge.reader.protocol import Recipe
    from django_pgnudge.testing import NudgeFake


def test_names_are_not_kept_in_an_epoch_in_which_another_thread_has_read_the_tables(
    django_postgres: Any, nudge_fake: NudgeFake
) -> None:
    with asking_postgres(nudge_fake):

        def read_another() -> None:
            nudged.get_or_set("another", lambda: None, depends_on=[nudged.row(Product, 7)])

        def meanwhile() -> None:
            django_postgres.execute(
                "ALTER TABLE shop_product DROP CONSTRAINT shop_product_pkey CASCADE,"
                " ADD PRIMARY KEY (name)"
            )
            nudge_fake.resync()
            read_another()

        read_another()
        value = Value("row", [nudged.row(Product, 8)], NudgedOptions(), "a row")
        asked = value.recipe(on_loop=False)
        assert asked is not None
        recipe, place = asked
        done = run(_before_it_makes_tokens(recipe, meanwhile), place, lambda: "of before")
        assert (done.value, done.stored) == ("of before", False)

        asked = Value("row", [nudged.row(Product, 8)], NudgedOptions(), "a row").recipe(
            on_loop=False
        )
        assert asked is not None
        recipe, place = asked
        done = run(read(recipe, flights), place, lambda: "of now")
        assert (done.value, done.stored) == ("of now", True)


def _before_it_makes_tokens(
    recipe: Recipe, meanwhile: Callable[[], None]
) -> Generator[Any, Any, Read]:
    """The steps of a reader, between two of which another thread does something."""
    steps = read(recipe, flights)
    step = next(steps)
    while True:
        if isinstance(step, Make):
            meanwhile()
        try:
            step = steps.send((yield step))
        except StopIteration as end:
            done: Read = end.value
            return done
