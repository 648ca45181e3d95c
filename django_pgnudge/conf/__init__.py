"""The ``PGNUDGE`` setting; `values` says what each key takes."""

from __future__ import annotations

from django_pgnudge.conf.settings import Conf, conf
from django_pgnudge.conf.values import CONNECTION_KEYS, DEFAULTS, Problem, did_you_mean

__all__ = ["CONNECTION_KEYS", "DEFAULTS", "Conf", "Problem", "conf", "did_you_mean"]
