"""Tells django-cachalot of every change of its tables: ``django_pgnudge.contrib.cachalot``."""
