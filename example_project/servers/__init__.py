"""Throwaway PostgreSQL and Redis servers: found on this machine, started, stopped, never left
behind.

The one place that knows how to run a server. The demo command, the tests and the benchmarks use it:

    from servers.postgres import Postgres, find_installations
    from servers.redis import Redis, find_redis

    with Postgres(find_installations()[0]) as postgres, Redis(find_redis()) as redis:
        postgres.create_database("shop")
        print(postgres.dsn("shop"), redis.url)

A server is a child of this process. It is stopped by its process id: by `stop()`, at interpreter
exit, or, if this process is killed, by a small guard process that holds the other end of a pipe.
"""
