"""Is anything served that is too old? `python -m benchmarks consistency --seconds 60 --faults`.

A real PostgreSQL, a real Redis and a real `runnudge`; writers that change random rows by every
path a write can take; readers that go through plain keys with rules and through `nudged` values;
faults at random, the same for the same seed; and at the end a checker that knows what was true
when.

    command     the options, one JSON object on standard output, the exit status
    run         the composition: servers, processes, phases, the comparison at the end
    stack       PostgreSQL, Redis, the proxies between them and runnudge, runnudge itself
    pair        a Redis with a replica that lags and is promoted (`--replica`)
    worker      a process of writers or of readers; writes.py and reads.py are what they do
    targets     the values that are read; kinds.py has those inside others, pages, tenants, routers
    ddl         one writer of DDL (`--ddl`)
    copies      a copy in another database that lags, for the router to choose
    faults      what goes wrong, and how it is put right again
    broken      takes a part of the promise away (`--break`)
    records     what writers and readers note down: one JSON array a line
    history     the checker: pure, no server, no clock
    site/       the Django project: models, tables, rules, pages, settings

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

**Rows that leave.** A partition that is detached, or a child that no longer inherits, takes its
rows with it. Its writer notes a version for each, which nobody can read: with it the one before is
over. It comes back with newer versions. Who was given no row is judged by when the row came back
after the latest leaving that began before the read had ended: the most that can be said for him.

**A value inside another** may be older than the other's own rows, each within the lease, so the two
are not asked to be of one moment. What a router has read from a copy that lags is judged only when
it comes from a cache: it must not have been kept. A page of another user and a row of another
tenant are errors raised to the reader, and violations at once.

**Clocks.** `--cache file --clock SECONDS` puts `nudged` values into files and sets the clocks of
readers ahead and late in turn. The bound is longer by `SKEW` then.

**Plain keys** are only measured while writers run: no deletion can win against a reader that read
before the commit and stores after the delete. Their rules delete once more after a delay (`again`),
so at the end a stale one is a violation too, unless its reader took longer than that delay to
store it: such are counted as `excused`.

**The end.** Faults are healed, writers stop, readers go on until a canary's change has come through
and the lease is back, then stop. Once a lease period and the delay of `again` have passed since the
last write, every cached value is compared with the database.

**A checker that cannot fail proves nothing**: `--break PART` takes one part of the promise away,
arranges what that part is there for (commits that wait for a standby; changes with quiet after
them; a daemon that is dead for four leases; DDL and nothing else), and must end with violations:

    visibility  changes are passed on when they are logged, not when they are visible
    tokens      readers do not compare tokens
    lease       readers trust the last lease for ever
    nested      a value stands on its own tokens only, not on those of what it used
    map         the fingerprint of the catalogs never moves
    once        requests that make tokens arrive twice, the second late
    clock       readers whose clock is a minute late believe any lease that is there
    keep        nobody asks which database was read, or in which transaction
    page        a page that used its reader's cookie does not say so

A daemon that ends by itself, and anything but a database's error raised out of a `nudged` read,
are violations as well. A worker that does not end prints where it hangs, and the run fails.
"""
