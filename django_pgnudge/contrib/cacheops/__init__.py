"""Tells django-cacheops of every change of a row: ``django_pgnudge.contrib.cacheops``."""
