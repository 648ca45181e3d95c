"""conf/settings.py and conf/values.py."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_pgnudge.conf import conf
from django_pgnudge.conf.values import DEFAULTS, PROBLEMS, feed_keywords
from tests.shop.cachekeys import order_keys

EVERY_KEY = sorted(DEFAULTS)


@pytest.mark.parametrize("key", EVERY_KEY)
def test_every_key_has_a_default_that_works(key: str) -> None:
    with override_settings(PGNUDGE={}):
        getattr(conf, key)
    with override_settings(PGNUDGE=None):
        assert conf.problems() == []


def test_the_keys_are_those_of_the_properties() -> None:
    assert EVERY_KEY == sorted(PROBLEMS) == sorted(n for n in dir(type(conf)) if n.isupper())


def test_settings_are_read_again_when_they_change() -> None:
    with override_settings(PGNUDGE={"PLUGIN": "wal2json"}):
        assert conf.PLUGIN == "wal2json"
    assert conf.PLUGIN == "auto"


def test_the_users_dictionary_is_never_written_to() -> None:
    given: dict[str, Any] = {
        "CONNECTION": {"user": "nudge", "port": 5433, "sslrootcert": Path("/ca.pem")},
        "TABLES": ["shop.Product"],
        "INVALIDATE": {"shop.Product": ["a", "b:{pk}"]},
    }
    before = copy.deepcopy(given)
    with override_settings(PGNUDGE=given):
        for key in ("CONNECTION", "FEED", "INVALIDATE", "NUDGED"):
            with pytest.raises(TypeError):
                getattr(conf, key)["x"] = "y"
        for key in EVERY_KEY:
            getattr(conf, key)
        assert conf.CONNECTION == {"user": "nudge", "port": "5433", "sslrootcert": "/ca.pem"}
        assert conf.problems() == []
    assert given == before
    assert DEFAULTS["FEED"] == {}


@pytest.mark.parametrize("key", EVERY_KEY)
def test_a_key_is_read_once_and_cannot_be_set(key: str) -> None:
    with override_settings(PGNUDGE={}):
        assert getattr(conf, key) is getattr(conf, key)
        with pytest.raises(FrozenInstanceError):
            setattr(conf, key, None)


CHANGED: dict[str, tuple[Any, Any]] = {
    "DATABASE": ("other", "other"),
    "PLUGIN": ("wal2json", "wal2json"),
    "PUBLICATION": ("every", "every"),
    "CONNECTION": ({"port": 5433}, {"port": "5433"}),
    "TABLES": (["shop.Product"], ("shop.Product",)),
    "EXCLUDE": (["shop.Product"], ("shop.Product",)),
    "FEED": ({"debounce": 1.0}, {"debounce": 1.0}),
    "INVALIDATE": ({"shop.Product": "a"}, {"shop.Product": "a"}),
    "RESYNC": ("clear", "clear"),
    "NUDGED": (
        {
            "CACHES": ["fast"],
            "LEASE": 3,
            "SKEW": 2,
            "SCOPE": "tests.shop.cachekeys.order_keys",
            "OBSERVE": 0.01,
            "SITE": "marked",
            "HEADER": True,
        },
        {
            "CACHES": ("fast",),
            "LEASE": 3.0,
            "SKEW": 2.0,
            "SCOPE": order_keys,
            "OBSERVE": 0.01,
            "SITE": "marked",
            "HEADER": True,
        },
    ),
}


@pytest.mark.parametrize("key", EVERY_KEY)
@pytest.mark.parametrize("way", ["override_settings", "the fixture"])
def test_a_change_of_each_key_is_read(key: str, way: str, settings: Any) -> None:
    before, (given, expected) = getattr(conf, key), CHANGED[key]
    assert before != expected
    if way == "override_settings":
        with override_settings(PGNUDGE={key: given}):
            assert getattr(conf, key) == expected
        assert getattr(conf, key) == before
    else:
        settings.PGNUDGE = {key: given}
        assert getattr(conf, key) == expected
        settings.PGNUDGE = {}
        assert getattr(conf, key) == before


def test_a_wrong_value_is_read_again_when_it_is_corrected() -> None:
    with override_settings(PGNUDGE={"PLUGIN": "wal2jsn"}):
        assert not conf.is_usable("PLUGIN")
        with override_settings(PGNUDGE={"PLUGIN": "wal2json"}):
            assert conf.PLUGIN == "wal2json"
        with pytest.raises(ImproperlyConfigured):
            _ = conf.PLUGIN


def test_an_alias_that_goes_is_noticed() -> None:
    here = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with (
        override_settings(CACHES={"default": here, "extra": here}),
        override_settings(PGNUDGE={"NUDGED": {"CACHES": ["extra"]}}),
    ):
        assert conf.first_cache() == "extra"
        with override_settings(CACHES={"default": here}):
            assert not conf.is_usable("NUDGED")


def test_what_is_being_read_while_the_setting_changes_is_not_kept() -> None:
    read, may_go_on = threading.Event(), threading.Event()

    class Slow(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            value = super().__getitem__(key)
            read.set()
            assert may_go_on.wait(10)
            return value

    with ThreadPoolExecutor(1) as threads:
        with override_settings(PGNUDGE=Slow(PLUGIN="wal2json")):
            found = threads.submit(lambda: conf.PLUGIN)
            assert read.wait(10)
        may_go_on.set()
        assert found.result(10) == "wal2json"
    assert conf.PLUGIN == "auto"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("DATABASE", "defualt", "Did you mean 'default'?"),
        ("DATABASE", 7, "not an alias"),
        ("PLUGIN", "wal2jsn", "Did you mean 'wal2json'?"),
        ("PLUGIN", None, "there is no such plugin"),
        ("PUBLICATION", "", "non-empty"),
        ("PUBLICATION", 1, "non-empty"),
        ("CONNECTION", "host=x", "not a dictionary"),
        ("CONNECTION", {"usr": "x"}, "Did you mean 'user'?"),
        ("CONNECTION", {"port": "many"}, "1 to 65535"),
        ("CONNECTION", {"port": 70000}, "1 to 65535"),
        ("CONNECTION", {"user": None}, "not a string"),
        ("CONNECTION", {"user": True}, "not a string"),
        ("TABLES", "shop.Product", "not a list"),
        ("TABLES", [1], "not a list"),
        ("EXCLUDE", None, "not a list"),
        ("EXCLUDE", [""], "not a list"),
        ("FEED", [], "not a dictionary"),
        ("FEED", {"debouncee": 1}, "Did you mean 'debounce'?"),
        ("FEED", {"host": "x"}, 'PGNUDGE["CONNECTION"]'),
        ("INVALIDATE", ["shop.Product"], "not a dictionary"),
        ("INVALIDATE", {1: "products"}, "not a dictionary"),
        ("RESYNC", "version", "Did you mean 'versions'?"),
        ("RESYNC", None, "no such way"),
        ("RESYNC", "tests.shop.nowhere.function", "ModuleNotFoundError"),
        ("RESYNC", "tests.shop.cachekeys.not_callable", "which is not callable"),
    ],
)
def test_a_wrong_value_is_refused_by_words_and_named(key: str, value: Any, words: str) -> None:
    with override_settings(PGNUDGE={key: value}):
        problems = conf.problems()
        assert len(problems) == 1
        with pytest.raises(ImproperlyConfigured) as caught:
            getattr(conf, key)
        assert not conf.is_usable(key)
        # One wrong key leaves the others readable.
        assert all(conf.is_usable(other) for other in EVERY_KEY if other != key)
    text = f"{problems[0].message} {problems[0].hint}"
    assert str(caught.value) == text
    assert words in text
    assert f'PGNUDGE["{key}"]' in text


def test_a_wrong_connection_value_is_not_repeated_as_it_may_be_a_password() -> None:
    with override_settings(PGNUDGE={"CONNECTION": {"password": ["hunter2"]}}):
        assert "hunter2" not in str(conf.problems())
    with override_settings(PGNUDGE={"CONNECTION": {"pasword": "hunter2"}}):
        assert "hunter2" not in str(conf.problems())


def test_an_unknown_setting_is_a_problem_but_stops_nothing() -> None:
    with override_settings(PGNUDGE={"INVALIDTE": {}, "PLUGIN": "pgoutput", "PUBLICATION": "p"}):
        (problem,) = conf.problems()
        assert (problem.id, conf.PLUGIN) == ("E002", "pgoutput")
        assert "Did you mean 'INVALIDATE'?" in problem.hint


@pytest.mark.parametrize("value", [[], "PGNUDGE", 7])
def test_what_is_no_dictionary_is_one_problem(value: Any) -> None:
    with override_settings(PGNUDGE=value):
        assert [problem.id for problem in conf.problems()] == ["E001"]
        with pytest.raises(ImproperlyConfigured, match="not a dictionary"):
            _ = conf.PLUGIN


def test_pgoutput_without_a_publication_is_a_problem() -> None:
    with override_settings(PGNUDGE={"PLUGIN": "pgoutput"}):
        assert [problem.id for problem in conf.problems()] == ["E003"]


def test_feed_values_are_judged_by_the_feed_itself() -> None:
    with override_settings(PGNUDGE={"FEED": {"debounce": -1}}):
        (problem,) = conf.problems()
        assert problem.id == "E003"
        assert "debounce" in problem.message
    with override_settings(PGNUDGE={"FEED": {"debounce": 0.5, "failsafe": 60}}):
        assert conf.problems() == []


def test_feed_keywords_are_the_feeds_but_for_those_set_elsewhere() -> None:
    keywords = feed_keywords()
    assert {"debounce", "failsafe", "backoff", "visibility"} <= keywords
    assert not {"host", "tables", "plugin", "keys", "password"} & keywords


def test_a_function_path_is_a_way_to_resync() -> None:
    with override_settings(PGNUDGE={"RESYNC": "tests.shop.cachekeys.order_keys"}):
        assert conf.RESYNC == "tests.shop.cachekeys.order_keys"


def test_the_package_is_imported_without_settings() -> None:
    code = "import django_pgnudge as d; d.emit; d.aemit; d.invalidates; assert not hasattr(d, 'x')"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_nudged_has_defaults_for_what_is_left_out() -> None:
    others = {
        "CACHES": ("default",),
        "SKEW": 1.0,
        "SCOPE": None,
        "OBSERVE": None,
        "SITE": "all",
        "HEADER": False,
    }
    assert {**others, "LEASE": 10.0} == conf.NUDGED
    with override_settings(PGNUDGE={"NUDGED": {"LEASE": 3}}):
        assert {**others, "LEASE": 3} == conf.NUDGED


@pytest.mark.parametrize(
    ("value", "id_", "words"),
    [
        ([], "E003", "not a dictionary"),
        ({"LEASES": 1}, "E002", "Did you mean 'LEASE'"),
        ({"LEASE": 0.5}, "E003", "0.5"),
        ({"LEASE": 3601}, "E003", "3601"),
        ({"LEASE": True}, "E003", "True"),
        ({"CACHES": "default"}, "E003", "'default'"),
        ({"CACHES": ["defualt"]}, "E003", "Did you mean 'default'"),
        ({"SITE": "market"}, "E003", "Did you mean 'marked'"),
        ({"HEADER": "yes"}, "E003", "Give True or False"),
    ],
)
def test_wrong_values_of_nudged_are_named(value: Any, id_: str, words: str) -> None:
    with override_settings(PGNUDGE={"NUDGED": value}):
        (problem,) = conf.problems()
    assert problem.id == id_
    assert words in f"{problem.message} {problem.hint}"
    assert "NUDGED" in problem.message
