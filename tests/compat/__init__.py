"""Other people's applications, run with a real `runnudge`, PostgreSQL and Redis.

Each test file has a project in a folder beside it. The project runs in a worker, a process of its
own with settings of its own; a test calls the steps in the project's `steps.py` by name and judges
what they answer. `conftest.py` starts a worker and a `runnudge` once for each file.

The packages are those of the extra `compat`; a file is skipped by name where one is not installed.
"""
