"""Sites of django-cachalot and django-cacheops with the apps of ``django_pgnudge.contrib``."""
