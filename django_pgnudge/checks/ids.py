"""The number and title of every system check; the documentation has the same table."""

from __future__ import annotations

from typing import Final

from django.core.checks import CheckMessage, Error, Info
from django.core.checks import Warning as CheckWarning

from django_pgnudge.log import escape

DOCS: Final = "https://django-pgnudge.readthedocs.io/en/stable/checks.html"

IDS: Final[dict[str, str]] = {
    "E001": "PGNUDGE is not a dictionary",
    "E002": "A key of PGNUDGE or of CONNECTION is unknown",
    "E003": "A setting has an invalid value",
    "E004": "DATABASE is not an alias of DATABASES",
    "E005": "A key of FEED is not a keyword for it",
    "E006": "A label names no model",
    "E007": "A rule is malformed",
    "E008": "A template is malformed, or names a column that does not exist",
    "E009": "The module of a dotted path cannot be imported",
    "E010": "A rule names a cache that is missing or broken",
    "E011": "A pattern is meant for a cache without patterns",
    "W001": "Sessions are stored in a cache that a resync clears",
    "W002": "A rule names a cache that no other process can see",
    "W003": "A template is meant for a cache without patterns",
    "W004": "A rule names a table that TABLES or EXCLUDE keeps out",
    "W005": "A resync cannot clear one version of a cache",
    "W006": "A cache of NUDGED cannot hold nudged values",
    "W007": "A key looks like the path of a function",
    "W008": "A Resync clears what other code keeps",
    "W009": "DATABASE is not PostgreSQL",
    "W010": "Several hosts are named, and the first that answers may be a standby",
    "W011": "A rule for every table fires for sessions",
    "W012": "Another package caches where runnudge cannot reach",
    "W013": "Nudged values are meant for the memory of one process",
    "W014": "Middleware that reads requests stands above NudgedSiteMiddleware",
    "W020": "wal_level is not logical",
    "W021": "The role may not replicate",
    "W022": "The server does not allow the output plugin",
    "W023": "The output plugin is not installed",
    "W024": "There is no such publication",
    "W025": "A rule's table is not in the publication",
    "W026": "A published table has no replica identity",
    "W027": "A rule needs primary keys that the table does not have",
    "W028": "A rule names a table that the database does not have",
    "W029": "The publication leaves changes out",
    "W030": "The database cannot be queried",
    "I031": "Every role may write own nudges",
    "I032": "A role of the site may not write own nudges",
    "W040": "A published table's replica identity is left out",
    "W041": "A nudged value depends on a table that is not in the publication",
    "W042": "A migration publishes a model that it does not depend on",
    "W043": "A model's rule means one schema of several",
}
"""Number and title.

Numbers from 20 on are checks of the database. None of them is an error: ``migrate`` runs the checks
first and stops at an error, but the migration may be what corrects the finding. Infos report a
default of PostgreSQL.
"""


def anchor(id: str) -> str:  # noqa: A002
    """The URL of a check in the documentation."""
    return f"{DOCS}#django-pgnudge-{id.lower()}"


def message(id: str, text: str, hint: str) -> CheckMessage:  # noqa: A002
    """A check message; the letter of its number is its level."""
    level = {"E": Error, "W": CheckWarning, "I": Info}[id[0]]
    # Messages quote texts of the database, such as errors and names of tables.
    return level(escape(text), hint=escape(f"{hint} See {anchor(id)}"), id=f"django_pgnudge.{id}")
