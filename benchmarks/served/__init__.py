"""Two real sites, served by gunicorn while they are written to: `python -m benchmarks observed`.

A Wagtail site and a django-oscar shop, each with the caches that a site could have, one after the
other on copies of one database. What a page shows carries versions, so each answer can be judged
by the database's history.

    marks        items with versions, as text of a page and of a row
    contenders   the caches, and what a site writes in its settings for each
    settings     what both sites share
    wagtail_site, oscar_site    each with its settings, its content, its writers
    wsgi         the application; it says how often a request asked the database
    stage        PostgreSQL, Redis, gunicorn and `runnudge`
    load         a process that asks for pages
    writer       a process that writes, through the site or past it
    processor    processor time of programs
    judge        answers held against what had been committed
    run          one after the other, into a report
"""
