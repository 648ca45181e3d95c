"""Fragments without ``on``: they depend on what the request has read, and on what they read."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, transaction
from django.template import Context, RequestContext
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from django_pgnudge import nudged
from django_pgnudge.reader import transcript
from tests.fix_nudged import count_calls
from tests.shop.models import Category, Place, Product, Review
from tests.templatetags.observed_site import ENGINE, Site, a_request, execute, learned, products

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

pytestmark = pytest.mark.usefixtures("real_sessions", "no_connections_closed", "takes_transcripts")


def test_what_the_view_read_and_the_fragment_shows_ends_it(nudge_fake: NudgeFake) -> None:
    site = Site(products)
    Product.objects.create(name="old")
    assert site.is_kept()
    execute("UPDATE shop_product SET name = 'new'")
    assert site.get() == "old"
    nudge_fake.changed("public.shop_product")
    assert site.get() == "new"
    assert site.is_kept()
    for other in (Category, Review, Place):
        assert not site.is_ended_by(nudge_fake, other)


def test_what_the_fragment_reads_ends_it_too(nudge_fake: NudgeFake) -> None:
    site = Site(lambda: {**products(), "found": Category.objects.all()}, "{{ found|length }}")
    Category.objects.create(name="one")
    assert site.is_kept()
    assert site.is_ended_by(nudge_fake, Category)
    assert site.is_ended_by(nudge_fake, Product)
    assert not site.is_ended_by(nudge_fake, Review)


def test_a_hit_is_one_round_trip_and_no_query(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(dict)
    with_tables = Site(products)
    assert with_tables.is_kept()
    calls = count_calls(monkeypatch)
    with a_request(), CaptureQueriesContext(connection) as queries:
        with_tables.render({})
    assert len(queries) == 0
    named = ENGINE.from_string(
        '{% load nudged %}{% nudged 60 it on "shop.Product" %}{% endnudged %}'
    )
    observed = calls[:]
    for _ in range(3):
        calls.clear()
        with a_request():
            named.render(Context())
    assert observed == calls
    assert site.renderings == 0


def test_a_change_between_the_view_s_query_and_the_tag_is_not_kept(nudge_fake: NudgeFake) -> None:
    site = Site(products)
    Product.objects.create(name="old")
    assert site.is_kept()
    nudge_fake.changed(Product)
    with a_request():
        shown = products()
        # By somebody else: a request that has written is not kept for that.
        connection.connection.execute("UPDATE shop_product SET name = 'new'")
        nudge_fake.changed(Product)
        assert site.render(shown) == "old"
    assert site.get() == "new"


def test_nudged_values_that_the_view_used_are_part_of_it(nudge_fake: NudgeFake) -> None:
    def view() -> dict[str, Any]:
        name = nudged.get_or_set("name", Category.objects.count)
        return {**products(), "text": name}

    site = Site(view)
    for _ in range(3):
        site.get()
    assert site.is_kept()
    Category.objects.create(name="one")
    assert site.get() == "0"
    nudge_fake.changed(Category)
    assert site.get() == "1"


def test_what_a_block_around_the_reads_used_is_part_of_it(nudge_fake: NudgeFake) -> None:
    def view() -> dict[str, Any]:
        with nudged.reading():
            count = nudged.get_or_set("name", Category.objects.count)
            return {**products(), "text": count}

    site = Site(view)
    for _ in range(3):
        site.get()
    assert site.is_kept()
    assert site.is_ended_by(nudge_fake, Category)
    assert site.is_ended_by(nudge_fake, Product)


def test_what_was_observed_around_it_needs_no_text(nudge_fake: NudgeFake) -> None:
    """A function that EXPLAIN does not run is seen where the request is observed."""
    execute(
        "CREATE FUNCTION hidden() RETURNS bigint LANGUAGE plpgsql STABLE AS"
        " 'BEGIN RETURN (SELECT count(*) FROM shop_category); END'"
    )
    site = Site(dict)

    def page() -> str:
        with transaction.atomic():
            execute("SELECT hidden()")
        return site.render(products())

    def get() -> str:
        with a_request():
            return str(nudged.get_or_set(uuid.uuid4().hex, page))

    for _ in range(5):
        get()
    before = site.renderings
    get()
    assert site.renderings == before
    assert learned() == {"public.shop_product", "public.shop_category"}
    nudge_fake.changed(Category)
    get()
    assert site.renderings == before + 1


def test_the_request_that_compiles_the_first_fragment_renders_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    transcript.taking.is_on = False
    caplog.set_level("INFO", "django_pgnudge.nudged")
    with a_request():
        shown = products()
        site = Site(products)
        for _ in range(4):
            site.render(shown)
        assert site.renderings == 4
    assert "noted from the next one on" in caplog.text
    assert site.is_kept()


def test_outside_of_requests_it_is_rendered_and_said(caplog: pytest.LogCaptureFixture) -> None:
    site = Site(products)
    for _ in range(4):
        site.render(products())
    assert site.renderings == 4
    assert "outside of a request" in caplog.text
    for _ in range(5):
        with nudged.reading():
            site.render(products())
    assert site.renderings == 7  # learned, taken, and kept


def test_a_request_with_too_many_statements(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcript, "MOST_STATEMENTS", 3)

    def view(number: int) -> dict[str, Any]:
        for _ in range(9):
            for limit in range(1, number + 1):
                execute(f"SELECT 1 FROM shop_product LIMIT {limit}")
        return {}

    assert Site(lambda: view(3)).is_kept()
    assert not Site(lambda: view(4), "other").is_kept()
    assert "more than 3 different statements" in caplog.text


def test_the_bound_is_500_statements(caplog: pytest.LogCaptureFixture) -> None:
    def view() -> dict[str, Any]:
        for number in range(501):
            execute(f"SELECT {number} FROM shop_product")
        return {}

    assert not Site(view).is_kept()
    assert "more than 500 different statements" in caplog.text


def test_another_database(caplog: pytest.LogCaptureFixture) -> None:
    def view() -> dict[str, Any]:
        return {**products(), "text": Category.objects.using("other").count()}

    assert not Site(view).is_kept()
    assert "the database 'other'" in caplog.text


def test_another_database_in_an_observed_value(caplog: pytest.LogCaptureFixture) -> None:
    def read() -> None:
        Category.objects.using("other").count()
        raise KeyError

    def view() -> dict[str, Any]:
        try:
            nudged.get_or_set("failing", read, using="other")
        except KeyError:
            return products()
        raise AssertionError

    assert not Site(view).is_kept()
    assert "the database 'other'" in caplog.text


def test_a_statement_that_fails_and_one_that_is_not_visible(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def view() -> dict[str, Any]:
        try:
            execute("SELECT * FROM nothing")
        except Exception:
            return products()
        raise AssertionError

    assert not Site(view).is_kept()
    assert "did not say what the request had read" in caplog.text


def test_two_users_see_each_their_own() -> None:
    template = ENGINE.from_string(
        "{% load nudged %}{% nudged 60 it %}{{ request.user.username }}{{ text }}{% endnudged %}"
    )

    def get(user: Any) -> str:
        with a_request():
            request = RequestFactory().get("/")
            request.user = user
            shown = products()
            return str(template.render(RequestContext(request, {**shown, "request": request})))

    users = [User(pk=1, username="ann"), User(pk=2, username="bob"), AnonymousUser()]
    for _ in range(8):
        assert [get(user) for user in users] == ["ann", "bob", ""]


def test_after_by_stands_what_tells_renderings_apart() -> None:
    site = Site(dict, "{{ shown.name }}", by="by shown.pk")
    for pk in (1, 2):
        Product.objects.create(pk=pk, name=f"name {pk}")
    for turn in range(6):
        for pk in (1, 2):
            with a_request():
                shown = Product.objects.get(pk=pk)
                assert site.render({"shown": shown}) == f"name {pk}"
        if turn == 4:
            before = site.renderings
    assert site.renderings == before
