"""The page, the state it polls, and the buttons' writes."""

from __future__ import annotations

import itertools
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from django_pgnudge import caches
from django_pgnudge.caches import Question
from django_pgnudge.reader.keys import Lease, Names
from django_pgnudge.reader.state import reader_state
from shop import cached, nudged_cards, nudges, sources
from shop.actions import ACTIONS

if TYPE_CHECKING:
    from django.http import HttpRequest

SLOTS = """
    SELECT s.slot_name, s.plugin, s.active_pid, coalesce(r.state, 'starting'),
           current_setting('server_version')
    FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
    WHERE s.slot_type = 'logical' AND s.temporary AND s.active
          AND s.database = current_database()
"""


def _proven() -> float | None:
    """When runnudge last proved itself current, in seconds by the clock of Redis."""
    identity = reader_state("default").tables.identity()
    if identity is None:
        return None
    values, names = caches.values("default"), Names.of(identity)
    text = values.ask(Question(names.lease, names.entry("none"), ())).texts.get(names.lease, "")
    lease = Lease.parse(text)
    return None if lease is None else lease.proven


def _daemon() -> dict[str, Any]:
    """What the server knows of runnudge: its temporary slot is there, or there is no runnudge."""
    with connection.cursor() as cursor:
        cursor.execute(SLOTS)
        row = cursor.fetchone()
    supervised = bool(settings.STATE.read())
    daemon: dict[str, Any] = {
        "connected": row is not None,
        "supervised": supervised,
        "paused": supervised and settings.STATE.pause_file.exists(),
        "proven": _proven(),
    }
    if row is not None:
        daemon.update(zip(("slot", "plugin", "pid", "state", "server"), row, strict=True))
    return daemon


def _state(request: HttpRequest) -> dict[str, Any]:
    values = [cached.read(value) for value in cached.VALUES]
    values += [nudged_cards.read(card, request) for card in nudged_cards.cards()]
    return {
        "now": time.time(),
        "values": [asdict(value) for value in values],
        "nudges": nudges.last(),
        "daemon": _daemon(),
    }


@require_GET
@never_cache
@ensure_csrf_cookie
def page(request: HttpRequest) -> HttpResponse:
    groups = itertools.groupby(ACTIONS.values(), key=lambda action: action.group)
    return render(
        request,
        "shop/page.html",
        {
            "values": cached.VALUES,
            "nudged": nudged_cards.cards(),
            "groups": [(group, list(actions)) for group, actions in groups],
            "sources": sources.SOURCES,
            "psql": sources.psql(),
            "state": _state(request),
        },
    )


@require_GET
@never_cache
def state(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_state(request))


@require_POST
def act(request: HttpRequest, name: str) -> HttpResponse:
    """One button. The browser's script asks for JSON; without a script the page is shown again."""
    if name not in ACTIONS:
        raise Http404(f"no action {name!r}")
    said = ACTIONS[name].run()
    if request.accepts("text/html"):
        return redirect("page")
    return JsonResponse({"said": said})


@require_POST
def daemon(request: HttpRequest, command: str) -> HttpResponse:
    """Ask the demo's supervisor to hold runnudge still, or to let it go on."""
    if command not in {"pause", "resume"} or not settings.STATE.read():
        raise Http404("only `manage.py demo` can pause runnudge, and only pause or resume it")
    if command == "pause":
        settings.STATE.pause_file.touch()
    else:
        settings.STATE.pause_file.unlink(missing_ok=True)
    if request.accepts("text/html"):
        return redirect("page")
    return JsonResponse({"said": f"Asked to {command} runnudge."})


@require_GET
@never_cache
def ready(request: HttpRequest) -> HttpResponse:
    """For the supervisor: the site answers, and its servers do."""
    connected = _daemon()["connected"]
    nudges.last()
    return HttpResponse(
        "ready" if connected else "waiting for runnudge", status=200 if connected else 503
    )
