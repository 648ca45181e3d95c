"""benchmarks/served: what a page shows, and which answers were too old."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.served import processor
from benchmarks.served.judge import NOTICED, Answer, Commit, judge
from benchmarks.served.marks import in_page, price, text

LEASE = 5.0


def test_a_page_s_marks_are_found_once_each() -> None:
    title, amount = text("p", 17, 3), f"£{price(4, 12):,}.00"
    page = f"<title>Rye {title}</title><h1>Rye {title}</h1><p>{amount}</p><i>£0.00</i>"
    assert in_page(page.encode()) == [("p", 17, 3), ("s", 4, 12)]
    assert in_page(b"<p>nothing ~of~ that</p>") == []


def test_an_answer_is_as_old_as_the_next_version_of_anything_on_it() -> None:
    commits = [Commit("p", 1, 2, 20.0), Commit("p", 1, 1, 10.0), Commit("a", 2, 1, 12.0)]
    answers = [
        Answer(9.0, (("p", 1, 0), ("a", 2, 0))),  # before everything
        Answer(10.5, (("p", 1, 0),)),  # half a second old
        Answer(13.0, (("p", 1, 1), ("a", 2, 0))),  # a second, by what is not its own
        Answer(16.0, (("p", 1, 0),)),  # six seconds
        Answer(40.0, (("p", 1, 2), ("a", 2, 1))),  # of now
        Answer(40.0, (("p", 1, 1), ("b", 9, 0))),  # twenty, not counted from the first version
    ]
    found = judge(answers, commits, LEASE)
    assert (found.answers, found.past_lease, found.stalest) == (6, 2, 20.0)
    assert found.noticed == sum(age > NOTICED for age in (0.5, 1.0, 6.0, 20.0))


def test_an_item_written_by_two_has_no_history() -> None:
    commits = [Commit("p", 1, 1, 1.0), Commit("p", 1, 1, 2.0)]
    with pytest.raises(ValueError, match="p1"):
        judge([], commits, LEASE)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processor_time_includes_what_a_program_started() -> None:
    work = "import time\nwhile time.process_time() < 0.2: pass"
    before = processor.seconds([os.getpid()])
    subprocess.run([sys.executable, "-c", work], check=True)
    assert processor.seconds([os.getpid()]) - before >= 0.2
    assert processor.seconds([]) == 0
