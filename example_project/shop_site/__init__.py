"""The project around the shop: settings, URLs, and the supervisor behind ``manage.py demo``."""
