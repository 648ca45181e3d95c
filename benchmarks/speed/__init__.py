"""How fast, beside its peers: `python -m benchmarks throughput --quick`.

Every benchmark measures its contenders side by side on one machine, one after the other in each of
several rounds, so that what the machine does besides hits all of them; its table gives medians,
their spread, and the ratios that count. Where a ratio or a figure misses what is aimed at, the line
says so.

    command     the options they share, the run, the exit status
    report      samples, medians, ratios, what is aimed at; the table and the JSON
    peers/      the others, each behind the same few words
    stage       PostgreSQL, Redis and `runnudge`, on the project in site/
    rows        what the feed's benchmarks write, without a project
    clients/    processes that follow a feed, or pg_recvlogical, and say what arrived when
    child       Python processes that end with the benchmark
    plots/      pictures of what they found
    throughput, latency, …    one module a benchmark: `add_arguments` and `measure`
"""
