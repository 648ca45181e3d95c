"""Is anything served that is too old? `python -m benchmarks consistency --seconds 60 --faults`.

A real PostgreSQL, a real Redis and a real `runnudge`; writers that change random rows by every
path a write can take; readers that go through plain keys with rules and through `nudged` values;
faults at random, the same for the same seed; and at the end a checker that knows what was true
when.

    command     the options, one JSON object on standard output, the exit status
    run         the composition: servers, processes, phases, the comparison at the end
    stack       PostgreSQL, Redis, the proxies between them and runnudge, runnudge itself
    worker      a process of writers or of readers; writes.py and reads.py are what they do
    faults      what goes wrong, and how it is put right again
    records     what writers and readers note down: one JSON array a line
    history     the checker: pure, no server, no clock
    site/       the Django project: models, rules, settings

The lease is two seconds long unless told otherwise, a fifth of the product's default, so that
faults outlast it often. `--only WORDS` takes only faults with these words in their names,
`--keep FOLDER` keeps records and logs, `--shared-cache` puts plain keys and `nudged` values into
one cache. The same seed makes the same choices, not the same run: who is first is up to the
machine.

**The true history.** A row's version is taken from a sequence under the row's lock, so versions
grow in the order of commits. The writer notes the time before COMMIT is sent and the time after it
has returned; the version became visible somewhere in between. All processes are on one host, so
time.monotonic() is one clock. A COMMIT whose connection broke has an unknown outcome: it counts
from the moment anybody saw the version.

**Staleness.** A version may have been the newest visible one until the next version's COMMIT had
returned, or a later version's, or until anybody was given a later one. A read that began after
that moment is stale by the difference. A value of several rows is as stale as its stalest row.

**The bound of `nudged`.** A value served was true at some moment within the last lease period
before it was fetched. The fetch is not before the read began, so a staleness above the lease is a
violation whatever the scheduler does to the reader; nothing needs to be added for slow readers.
0.1 s is added for the cache's clock: a Redis lets keys expire by its own wall clock, in steps of a
millisecond and when its loop comes round, and the wall clock may be slewed against the monotonic
one. A value that nobody can have read (never committed, from two moments at once, not yet
committed) is a violation at any age, for plain keys too.

Reads inside a transaction that has written, or that holds an old snapshot, are made as well. What
they return is theirs alone and is not judged; that it reaches nobody else is.

**Plain keys** are only measured while writers run: no deletion can win against a reader that read
before the commit and stores after the delete. Their rules delete once more after a delay (`again`),
so at the end a stale one is a violation too, unless its reader took longer than that delay to
store it: such are counted as `excused`.

**The end.** Faults are healed, writers stop, readers go on until a canary's change has come through
and the lease is back, then stop. Once a lease period and the delay of `again` have passed since the
last write, every cached value is compared with the database.

**A checker that cannot fail proves nothing**: `--break visibility`, `--break tokens` and
`--break lease` each take one part of the promise away, arrange what that part is there for
(commits that wait for a standby; changes with quiet after them; a daemon that is dead for four
leases), and must end with violations.

A daemon that ends by itself, and anything but a database's error raised out of a `nudged` read,
are violations as well. A worker that does not end prints where it hangs, and the run fails.
"""
