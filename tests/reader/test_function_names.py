"""functions: which functions have a name of their own, and what is said of the others."""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.db import transaction

from django_pgnudge import nudged
from django_pgnudge.errors import ConfigError
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    caches["default"].clear()


def entry(function: Any, *args: Any) -> str:
    """Where the result is kept."""
    found: str = function._value(args, {}).name
    return found


def plain() -> str:
    return "plain"


def closing_over(user: str) -> Callable[[], str]:
    def greeting() -> str:
        return f"Hello {user}"

    return greeting


class Greeter:
    def __init__(self, user: str) -> None:
        self.user = user

    def __call__(self) -> str:
        return self.user

    def greet(self) -> str:
        return self.user


class Base:
    def name(self) -> str:
        return "base"


class Derived(Base):
    @nudged(Product, key=lambda self: "k")
    def name(self) -> str:
        return super().name() + "!"


@nudged(Product)
async def later(sku: str) -> str:
    return sku


def logged(function: Any) -> Any:
    """A decorator as most are written."""

    @functools.wraps(function)
    def inner(*args: Any) -> Any:
        return function(*args)

    return inner


NAMELESS: dict[str, Callable[[], Any]] = {
    "a lambda": lambda: lambda: 1,
    "a function that closes over a value": lambda: closing_over("ann"),
    "a wrapper that bears another's name": lambda: logged(closing_over("ann")),
    "a wrapper around a function of the module": lambda: logged(plain),
    "a context manager as a decorator": lambda: transaction.atomic(plain),
    "a partial": lambda: functools.partial(plain),
    "an object that can be called": lambda: Greeter("ann"),
    "an async wrapper": lambda: sync_to_async(plain),
    "a bound method": lambda: Greeter("ann").greet,
    "a method of a built-in object": lambda: "ann".upper,
    "a class": lambda: Greeter,
    "a nudged function": lambda: later,
}


@pytest.mark.parametrize("make", NAMELESS.values(), ids=NAMELESS)
def test_what_has_no_name_of_its_own_is_refused_with_the_way_out(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match=r"key=|def at module level|is nudged already"):
        nudged(Product)(make())


CLOSING = ("a lambda", "a function that closes over a value", "a bound method",
           "a wrapper around a function of the module")  # fmt: skip


@pytest.mark.parametrize("kind", CLOSING)
def test_with_a_key_the_key_says_what_it_closes_over(kind: str, nudge_fake: NudgeFake) -> None:
    one = nudged(Product, key=lambda: "one")(NAMELESS[kind]())
    two = nudged(Product, key=lambda: "one")(NAMELESS[kind]())
    assert entry(one) == entry(two)


def test_two_lambdas_with_one_key_are_two_values(nudge_fake: NudgeFake) -> None:
    """Neither has a name, so that a key alone would not tell them apart."""
    one = nudged(Product, key=lambda: "same")(lambda: "one")
    two = nudged(Product, key=lambda: "same")(lambda: "two")
    assert [one(), two(), one(), two()] == ["one", "two", "one", "two"]


def test_what_is_said_names_the_function_and_what_it_closes_over() -> None:
    with pytest.raises(ConfigError, match=r"closing_over.<locals>.greeting .*closes over user"):
        nudged(Product)(closing_over("ann"))


def make(which: bool) -> Any:
    if which:

        @nudged(Product)
        def number() -> int:
            return 1
    else:

        @nudged(Product)
        def number() -> int:
            return 2

    return number


def test_a_second_function_of_the_same_name_with_other_code_is_refused() -> None:
    make(True)
    with pytest.raises(ConfigError, match=r"make.<locals>.number .*test_function_names.py:\d+"):
        make(False)


def test_a_function_that_is_gone_still_owns_its_name(nudge_fake: NudgeFake) -> None:
    """Its results are in the cache still."""

    def one() -> Any:
        @nudged(Product)
        def figure() -> int:
            return 1

        return figure

    one()()
    renamed = _other_figure
    renamed.__qualname__ = one().__wrapped__.__qualname__
    gc.collect()
    with pytest.raises(ConfigError, match="figure"):
        nudged(Product)(renamed)


def _other_figure() -> int:
    return 2


def test_the_names_keep_no_function_alive() -> None:
    def make_one() -> Any:
        @nudged(Product)
        def short_lived() -> int:
            return 1

        return short_lived

    function = make_one()
    gone = weakref.ref(function.__wrapped__)
    del function
    gc.collect()
    assert gone() is None


def test_the_same_code_again_is_the_same_function(nudge_fake: NudgeFake) -> None:
    assert entry(make(True)) == entry(make(True))


def test_a_name_with_another_key_is_refused() -> None:
    def priced(sku: str) -> str:
        return sku

    nudged(Product, key=lambda sku: sku)(priced)
    with pytest.raises(ConfigError, match="priced"):
        nudged(Product, key=lambda sku: sku.lower())(priced)
    with pytest.raises(ConfigError, match="priced"):
        nudged(Product)(priced)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a module's source, and imports it or imports it again."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"reloaded_{tmp_path.name}".replace("-", "_")

    def write(source: str) -> Any:
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        loaded = sys.modules.get(name)
        return importlib.import_module(name) if loaded is None else importlib.reload(loaded)

    yield write
    sys.modules.pop(name, None)


SOURCE = """
from django_pgnudge import nudged

@nudged("shop.Product")
def total(items=frozenset({"a", "b"})):
    return [item for item in items]
"""


def test_a_module_may_be_loaded_again(module: Any, nudge_fake: NudgeFake) -> None:
    first = entry(module(SOURCE).total)
    assert entry(module(SOURCE).total) == first
    moved = module("\n\n# Moved down.\n" + SOURCE)
    assert entry(moved.total) == first


def test_a_module_loaded_again_with_other_code_says_so(module: Any) -> None:
    module(SOURCE)
    with pytest.raises(ConfigError, match=r"total .*[Rr]estart"):
        module(SOURCE.replace("item for", "item + '!' for"))


def test_code_that_is_no_module_s_is_told_apart_by_itself(nudge_fake: NudgeFake) -> None:
    """A shell and a notebook define a name again; two scripts are both ``__main__``."""

    def run(source: str, name: str) -> Any:
        scope: dict[str, Any] = {"nudged": nudged, "__name__": name}
        exec(source, scope)
        return scope["answer"]

    source = '@nudged("shop.Product")\ndef answer():\n    return {}\n'
    for name in ("__main__", "nowhere", __name__):
        one, two = run(source.format(41), name), run(source.format(42), name)
        assert [one(), two(), one(), two()] == [41, 42, 41, 42]
        assert entry(run(source.format(41), name)) == entry(one)


def test_defaults_are_arguments(nudge_fake: NudgeFake) -> None:
    def greeting_of(user: str) -> Any:
        @nudged(Product)
        def greeting(user: str = user, *, mark: str = "!") -> str:
            return user

        return greeting

    ann, bob = greeting_of("ann"), greeting_of("bob")
    assert [ann(), bob(), ann(), bob()] == ["ann", "bob", "ann", "bob"]
    assert entry(ann) == entry(bob, "ann") != entry(bob)


def test_defaults_are_handed_to_the_key_too(nudge_fake: NudgeFake) -> None:
    def greeting_of(user: str) -> Any:
        @nudged(Product, key=lambda greeting, user: (greeting, user))
        def greet(greeting: str, user: str = user) -> str:
            return f"{greeting} {user}"

        return greet

    ann, bob = greeting_of("ann"), greeting_of("bob")
    assert [ann("Hi"), bob("Hi"), ann("Hi")] == ["Hi ann", "Hi bob", "Hi ann"]


def test_a_key_may_ask_for_fewer_arguments(nudge_fake: NudgeFake) -> None:
    def shown(sku: str, currency: str = "EUR") -> str:
        return sku

    assert nudged(Product, key=lambda sku: sku)(shown)("a") == "a"


def test_a_default_that_changes_is_another_argument(nudge_fake: NudgeFake) -> None:
    """The call is not remembered by what it passes alone."""
    names = ["ann"]

    def greeting_of(names: list[str]) -> Any:
        @nudged(Product)
        def greetings(sku: str, names: list[str] = names) -> str:
            return ", ".join(names)

        return greetings

    greetings = greeting_of(names)
    assert greetings("a") == "ann"
    names[0] = "bob"
    assert greetings("a") == "bob"


def test_super_is_no_value_that_a_method_closes_over(nudge_fake: NudgeFake) -> None:
    assert Derived().name() == "base!"


def test_super_of_a_class_made_anew_is_one() -> None:
    with pytest.raises(ConfigError, match="__class__"):

        class Local(Base):
            @nudged(Product)
            def name(self) -> str:
                return super().name()


async def test_coroutine_functions_have_names_as_functions_have(nudge_fake: NudgeFake) -> None:
    assert await later("a") == await later(sku="a") == "a"
    assert entry(later, "a") != entry(later, "b")
