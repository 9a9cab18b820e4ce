"""What is measured: one function per case, each of which first makes sure that the totals are right."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path

from benchmarks.corpora import Corpora, Corpus, WrongTotalsError, environment, totals_of
from benchmarks.measuring import Samples, Usage, cpu, in_turn, peak_memory, printed, run, wall
from benchmarks.peer import Peer
from benchmarks.report import Figure, Outcome, Row

KHARCHA = Path(sys.executable).with_name("kharcha")
NO_PEER = "ccusage is not installed"
GROWN_TRANSCRIPTS = 5
EVENTS_OF_A_DAY = 300
"""Of a busy user; what Dagster does depends on the number of days alone."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        megabytes: of the corpus that is called 1x.
        days: it spans; larger ones span more, at the same density.
        events: of the smallest invented history.
        events_per_day: in invented histories.
        range_days: days of a backfill, and of what Dagster is told.
        rounds: how often what takes seconds is measured.
        quick_rounds: how often what takes less is.
        calls: that each process records.
        whole: whether the corpus of 40x is read as well.
        rows: in one body that is sent to the server, the most that the contract allows.
        seconds: for how long small bodies are sent beside large ones.
    """

    megabytes: float = 100
    days: int = 30
    events: int = 1_000_000
    events_per_day: int = 20_000
    range_days: int = 365
    rounds: int = 5
    quick_rounds: int = 15
    calls: int = 20_000
    whole: bool = False
    rows: int = 20_000
    seconds: float = 10


QUICK = Scale(
    megabytes=3,
    days=10,
    events=20_000,
    events_per_day=400,
    range_days=20,
    rounds=1,
    quick_rounds=2,
    calls=500,
    rows=500,
    seconds=1,
)
"""Shows in a minute that all of it works; its verdicts say nothing."""


@dataclass(frozen=True)
class Bench:
    """What a case measures with.

    Attributes:
        scale: how large.
        corpora: the logs.
        peer: the program beside ours, if it is there.
        directory: for data directories; removed at the end.
    """

    scale: Scale
    corpora: Corpora
    peer: Peer | None
    directory: Path

    def corpus(self, times: int) -> Corpus:
        """The corpus with so many times the history of 1x."""
        return self.corpora.corpus(self.scale.megabytes * times, self.scale.days * times)

    @contextmanager
    def data(self) -> Iterator[Path]:
        """A data directory of one's own."""
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        try:
            yield directory
        finally:
            shutil.rmtree(directory)

    @contextmanager
    def synced(self, corpus: Corpus) -> Iterator[Path]:
        """A data directory with a corpus synced into it and its totals checked."""
        with self.data() as data:
            sync(corpus, data)
            check(corpus, data)
            yield data

    def cold_sync(self, corpus: Corpus) -> Usage:
        """A first sync, into a data directory that is thrown away."""
        with self.data() as data:
            return sync(corpus, data)

    def beside(self, corpus: Corpus) -> dict[str, Callable[[], Usage]]:
        """The peer as a contender, if it is there."""
        peer = self.peer
        return {"ccusage": lambda: peer.run(corpus)} if peer else {}

    def shares(self, corpus: Corpus) -> list[str]:
        """What the peer finds in a corpus, as a fact for the report."""
        size = f"{self.megabytes(corpus):,.0f} MB"
        return (
            [f"ccusage finds {self.peer.share_found(corpus):.3f} of the true tokens of {size}"] if self.peer else []
        )

    def megabytes(self, corpus: Corpus) -> float:
        """Size of a corpus in millions of bytes."""
        return sum(status.st_size for status in corpus.files().values()) / 1e6


def program(name: str, *arguments: object) -> list[str]:
    """The command that runs one of `benchmarks.programs`."""
    return [sys.executable, "-m", f"benchmarks.programs.{name}", *map(str, arguments)]


def sync_environment(home: Path, data: Path, **more: str | Path) -> dict[str, str]:
    """The variables of a sync of its own."""
    ours = {"KHARCHA_DATA_DIR": str(data), "KHARCHA_TIMEZONE": "UTC", "KHARCHA_MACHINE": "bench"}
    return {**environment(HOME=home, **more), **ours}


def sync(corpus: Corpus, data: Path) -> Usage:
    """One `kharcha sync`."""
    return run([KHARCHA, "sync", "--quiet"], sync_environment(corpus.home, data))


def check(corpus: Corpus, data: Path) -> None:
    """Makes sure that what was synced is what is true.

    Raises:
        WrongTotalsError: when it is not.
    """
    corpus.check(totals_of(json.loads(run(program("totals"), sync_environment(corpus.home, data)).output)))


def ratio(ours: Samples, others: Samples | None) -> float | None:
    """Ratio of the medians."""
    return ours.median / others.median if others else None


def cold_scan(bench: Bench) -> Outcome:
    """Reads 1 GB and keeps nothing, beside the peer and beside what merely passes over the bytes."""
    corpus = bench.corpus(10)
    with bench.synced(corpus):
        facts = [_size(bench, corpus), *bench.shares(corpus)]
    with bench.data() as data:
        variables = sync_environment(corpus.home, data)
        found = in_turn(
            bench.scale.rounds,
            ours=lambda: run(program("scan"), variables),
            grep=lambda: run(["grep", "-rcF", '"usage":{', str(corpus.home)], variables),
            read=lambda: run(program("read_files"), variables),
            **bench.beside(corpus),
        )
    theirs = cpu(found["ccusage"]) if "ccusage" in found else None
    row = Row("cold scan, 1 GB", "CPU ÷ ccusage", "×", ratio(cpu(found["ours"]), theirs), 0.55, 0.42, NO_PEER)
    names = {
        "ours": "cold scan, 1 GB",
        "grep": "floor: `grep -rcF '\"usage\":{'` over the same files",
        "read": "floor: reading the same files",
        "ccusage": "ccusage over the same files",
    }
    return Outcome([row], [figure for name in found for figure in _both(names[name], found[name])], facts)


def cold_sync(bench: Bench) -> Outcome:
    """A first sync of 1 GB: scan, land, build, price, roll up, publish."""
    corpus = bench.corpus(10)
    found, facts = _cold_syncs(bench, corpus)
    theirs = found.get("ccusage")
    rows = [
        Row(
            "cold sync into DuckDB, 1 GB", "CPU ÷ ccusage", "×",
            ratio(cpu(found["ours"]), cpu(theirs) if theirs else None), 0.9, 0.7, NO_PEER,
        ),
        Row(
            "the same", "wall ÷ ccusage", "×",
            ratio(wall(found["ours"]), wall(theirs) if theirs else None), 0.9, 0.7, NO_PEER,
        ),
    ]  # fmt: skip
    return Outcome(rows, _cold_figures("1 GB", found), facts)


def cold_sync_small(bench: Bench) -> Outcome:
    """A first sync of 100 MB: half of it is the start of the programs."""
    found, facts = _cold_syncs(bench, bench.corpus(1))
    theirs = found.get("ccusage")
    value = ratio(cpu(found["ours"]), cpu(theirs) if theirs else None)
    row = Row("cold sync, 100 MB", "CPU ÷ ccusage", "×", value, 1.5, 1.2, NO_PEER)
    return Outcome([row], _cold_figures("100 MB", found), facts)


def _cold_syncs(bench: Bench, corpus: Corpus) -> tuple[dict[str, list[Usage]], list[str]]:
    with bench.synced(corpus):
        facts = [_size(bench, corpus), *bench.shares(corpus)]
    contenders = {"ours": lambda: bench.cold_sync(corpus), **bench.beside(corpus)}
    return in_turn(bench.scale.rounds, **contenders), facts


def _cold_figures(size: str, found: dict[str, list[Usage]]) -> list[Figure]:
    names = {"ours": f"cold sync, {size}", "ccusage": f"ccusage, {size}, beside the cold sync"}
    figures = [figure for name in found for figure in _both(names[name], found[name])]
    peaks = [Figure(f"{names[name]}: peak memory", "MiB", _peaks(found[name])) for name in found]
    return figures + peaks


def unchanged(bench: Bench) -> Outcome:
    """A sync that finds nothing to do."""
    rows, figures = [], []
    for times, files, reach, beat in ((1, "1,700", 0.060, 0.035), (10, "16,000", 0.200, 0.130)):
        corpus = bench.corpus(times)
        with bench.synced(corpus) as data:
            name = f"no-change sync, about {files} files"
            found = in_turn(bench.scale.quick_rounds, ours=lambda: sync(corpus, data))["ours"]  # noqa: B023
            said = run([KHARCHA, "sync", "--json"], sync_environment(corpus.home, data)).output
            if json.loads(said)["changed"]:
                raise WrongTotalsError("A sync found changes where there were none.")
            rows.append(Row(name, "CPU", "ms", cpu(found).median, reach, beat))
            figures += _both(f"{name} ({len(corpus.files()):,} found)", found, "ms")
    return Outcome(rows, figures)


def growth(bench: Bench) -> Outcome:
    """Five transcripts grow by a response each: what it costs must not depend on how much history there is."""
    sizes = (1, 4, 16)
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Usage]] = {}
        for times in sizes:
            contenders |= {f"{name} {times}x": one for name, one in _growing(bench, times, stack).items()}
        all_found = in_turn(bench.scale.rounds, **contenders)  # in turn, so that no size meets a better machine
    figures: list[Figure] = []
    without_sweep: dict[int, Samples] = {}
    value = None
    for times in sizes:
        name = f"sync after five transcripts grew, {times}x"
        ours, timed = all_found[f"ours {times}x"], all_found[f"timed {times}x"]
        without_sweep[times] = Samples(tuple(used.cpu - float(used.output) for used in timed))
        figures += [
            *_both(name, ours, "ms"),
            Figure(f"{name}: finding out what changed, CPU", "ms", printed(timed)),
            Figure(f"{name}: all the rest, CPU", "ms", without_sweep[times]),
        ]
        if peer := all_found.get(f"ccusage {times}x"):
            figures += _both(f"ccusage, {times}x", peer)
            value = ratio(cpu(ours), cpu(peer))
    return Outcome(
        [
            Row("sync after five transcripts grew, 16x history", "CPU ÷ ccusage", "×", value, 0.25, 0.12, NO_PEER),
            Row(
                "the same without finding out what changed", "CPU at 16x ÷ 1x", "×",
                ratio(without_sweep[16], without_sweep[1]), 1.3, 1.1,
            ),
        ],
        figures,
    )  # fmt: skip


def _growing(bench: Bench, times: int, stack: ExitStack) -> dict[str, Callable[[], Usage]]:
    """The contenders over one size of history; when the stack is closed, totals are checked and all is put back."""
    corpus = bench.corpus(times)
    data = stack.enter_context(bench.synced(corpus))
    stack.enter_context(corpus.put_back())
    stack.callback(check, corpus, data)
    variables = sync_environment(corpus.home, data)

    def ours() -> Usage:
        corpus.grow(GROWN_TRANSCRIPTS)
        return sync(corpus, data)

    def timed() -> Usage:
        corpus.grow(GROWN_TRANSCRIPTS)
        return run(program("timed_sync"), variables)

    return {"ours": ours, "timed": timed, **bench.beside(corpus)}


def history(bench: Bench) -> Outcome:
    """Builds one day, and publishes, in an invented history and in one sixteen times as long."""
    sizes = [bench.scale.events * times for times in (1, 4, 16)]
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], Usage]] = {}
        for events in sizes:
            data = stack.enter_context(bench.data())
            variables = sync_environment(data, data)
            day = _add_history(events, bench.scale.events_per_day, variables)
            contenders[str(events)] = partial(run, program("build_day", day), variables)
        built = in_turn(bench.scale.quick_rounds, **contenders)
        published = in_turn(bench.scale.rounds, ours=lambda: run(program("publish"), variables))["ours"]
    by_size = [printed(built[str(events)]) for events in sizes]
    figures = [
        Figure(f"touched day of {events:,} events: database work, CPU", "ms", samples)
        for events, samples in zip(sizes, by_size, strict=True)
    ]
    gigabytes = printed(published, 2).median / 1e9
    figures += [
        Figure(f"publishing {gigabytes:.2f} GB, wall", "s", printed(published)),
        Figure(f"publishing {gigabytes:.2f} GB, under the lock, wall", "s", printed(published, 1)),
        Figure(f"publishing {gigabytes:.2f} GB, CPU", "s", cpu(published)),
    ]
    return Outcome(
        [
            Row(
                "touched-day database work, 1 M → 16 M events", "CPU at 16 M ÷ 1 M", "×",
                ratio(by_size[-1], by_size[0]), 1.3, 1.1,
            ),
            Row("publishing", "wall per GB", "s/GB", printed(published).median / gigabytes, 1.5, 1.5),
            Row(
                "publishing, of which others must wait", "wall under the lock per GB", "s/GB",
                printed(published, 1).median / gigabytes, 1.5, 0.15,
            ),
        ],
        figures,
    )  # fmt: skip


def report_daily(bench: Bench) -> Outcome:
    """`kharcha report daily` on a year with a million events."""
    events = bench.scale.events
    with bench.data() as data:
        variables = sync_environment(data, data)
        _add_history(events, events // bench.scale.range_days, variables)
        run(program("publish"), variables)
        found = in_turn(bench.scale.quick_rounds, ours=lambda: run([KHARCHA, "report", "daily"], variables))["ours"]
    name = "`kharcha report daily`, 1 M events"
    return Outcome([Row(name, "wall", "s", wall(found).median, 0.4, 0.25)], _both(name, found, "ms"))


def usage_page(bench: Bench) -> Outcome:
    """The first byte of the usage page, over all of a year with a million events: known already, and not."""
    events = bench.scale.events
    with bench.data() as data:
        variables = sync_environment(data, data)
        last = _add_history(events, events // bench.scale.range_days, variables)
        run(program("publish"), variables)
        times = json.loads(run(program("ask_page", last, bench.scale.quick_rounds), variables).output)
    expected = events // bench.scale.range_days * bench.scale.range_days
    if times.pop("events") != expected:
        raise WrongTotalsError(f"The page does not show {expected} events.")
    found = {name: Samples(tuple(seconds)) for name, seconds in times.items()}
    name = "usage page, 1 M events"
    return Outcome(
        [
            Row(f"{name}, cached", "first byte", "ms", found["cached"].median, 0.060, 0.010),
            Row(f"{name}, not cached", "first byte", "ms", found["not cached"].median, 0.400, 0.250),
        ],
        [Figure(f"{name}, {how}: first byte", "ms", samples) for how, samples in found.items()],
    )


def _add_history(events: int, per_day: int, variables: dict[str, str]) -> str:
    """Makes the history that long, and returns its last day."""
    day, priced = run(program("add_history", events, per_day), variables).output.split()
    wanted = events // per_day * per_day
    if int(priced) != wanted:
        raise WrongTotalsError(f"{priced} of {wanted} invented events are priced.")
    return day


def recorder(bench: Bench) -> Outcome:
    """Calls recorded by one process, and by four at once."""
    calls = bench.scale.calls
    alone = [_recorded(bench, 1, calls) for _ in range(bench.scale.rounds)]
    together = [_recorded(bench, 4, calls) for _ in range(bench.scale.rounds)]
    median, slow, share = printed(alone), printed(alone, 1), printed(together, 2)
    return Outcome(
        [
            Row("recording a call, one writer", "median", "µs", median.median, 150e-6, 100e-6),
            Row("the same", "99th percentile", "µs", slow.median, 3e-3, 1e-3),
            Row("calls of four processes (200 µs are 5,000/s)", "wall per call", "µs", share.median, 200e-6, 125e-6),
        ],
        [
            Figure("recording a call, one writer: median", "µs", median),
            Figure("recording a call, one writer: 99th percentile", "µs", slow),
            Figure("recording calls, one writer: wall per call", "µs", printed(alone, 2)),
            Figure("recording a call beside three other processes: median", "µs", printed(together)),
            Figure("recording a call beside three other processes: 99th percentile", "µs", printed(together, 1)),
            Figure("recording calls, four processes: wall per call", "µs", share),
        ],
    )


def _recorded(bench: Bench, processes: int, calls: int) -> Usage:
    with bench.data() as data:
        used = run(program("record_calls", processes, calls), sync_environment(data, data))
    told, stored, added = map(int, used.output.split()[3:])
    if not told == stored == added:
        raise WrongTotalsError(f"Of {told} recorded calls {stored} are stored, and {added} are in the days.")
    return used


def dagster(bench: Bench) -> Outcome:
    """A year as one range run of five assets, and Dagster being told of a year that was built without it."""
    days = bench.scale.range_days
    with bench.data() as data, bench.data() as prepared:
        variables = sync_environment(data, data)
        last = _add_history(EVENTS_OF_A_DAY * days, EVENTS_OF_A_DAY, variables)
        run(program("publish"), variables)
        run(program("prepare_dagster"), {**variables, "DAGSTER_HOME": str(prepared)})
        first = date.fromisoformat(last) - timedelta(days=days - 1)

        def on_fresh_instance(command: Sequence[str]) -> Usage:
            with bench.data() as home:
                shutil.copytree(prepared, home, dirs_exist_ok=True)
                return run(command, {**variables, "DAGSTER_HOME": str(home)})

        found = in_turn(
            min(3, bench.scale.rounds),
            backfill=lambda: on_fresh_instance(program("backfill", first, last)),
            told=lambda: on_fresh_instance(program("tell_dagster")),
        )
    for used in found["backfill"]:
        if used.output.split()[-5:] != [str(days)] * 5:
            raise WrongTotalsError(f"The backfill did not materialize all partitions: {used.output.split()[-5:]}.")
    if set(printed(found["told"], 1).values) != {5 * days}:
        raise WrongTotalsError(f"Dagster was told of {printed(found['told'], 1).values} partitions.")
    return Outcome(
        [
            Row(f"{days}-day range run, five daily assets", "wall", "s", wall(found["backfill"]).median, 90, 45),
            Row(f"telling Dagster of {days} days", "wall", "s", printed(found["told"]).median, 60, 30),
        ],
        [
            *_both(f"{days}-day range run", found["backfill"]),
            Figure(f"telling Dagster of {5 * days:,} partitions, wall", "s", printed(found["told"])),
        ],
    )


def memory(bench: Bench) -> Outcome:
    """Peak memory of a first sync of 4 GB. The history spans a year."""
    name = "cold sync of 4 GB"
    reach, beat = 400 * 2**20, 250 * 2**20
    if not bench.scale.whole:
        return Outcome([Row(name, "peak memory", "MiB", None, reach, beat, "only with `--full`")])
    corpus = bench.corpora.corpus(bench.scale.megabytes * 40, bench.scale.range_days)
    with bench.data() as data:
        peak = peak_memory([KHARCHA, "sync", "--quiet"], sync_environment(corpus.home, data))
        check(corpus, data)
    figures = [Figure(f"{name}: peak memory of all its processes", "MiB", Samples((peak,)))]
    if bench.peer:
        figures.append(Figure("ccusage, 4 GB: peak memory", "MiB", _peaks([bench.peer.run(corpus)])))
    return Outcome([Row(name, "peak memory", "MiB", peak, reach, beat)], figures, [_size(bench, corpus)])


def ingest(bench: Bench) -> Outcome:
    """A server takes in a whole body, and small ones while whole ones keep coming and are published."""
    rows = bench.scale.rows

    def sent() -> Usage:
        with bench.data() as data:
            return run(program("ingest", rows, bench.scale.seconds), sync_environment(data, data))

    found = in_turn(min(3, bench.scale.rounds), sent=sent)["sent"]
    whole, small = printed(found), printed(found, 1)
    return Outcome(
        [
            Row(f"server: a body of {rows:,} rows", "wall", "s", whole.median, 1.5, 0.75),
            Row(
                "server: small bodies of four senders, beside a backfill", "wall ÷ requests", "ms",
                small.median, 0.020, 0.010,
            ),
        ],
        [
            Figure(f"server: a body of {rows:,} rows, wall", "s", whole),
            Figure("server: small bodies beside a backfill, wall ÷ requests", "ms", small),
        ],
    )  # fmt: skip


def accounts(bench: Bench) -> Outcome:
    """Twelve accounts polled beside three that are well, and beside one that hangs, one expired and one limited."""
    found = in_turn(
        bench.scale.rounds,
        well=lambda: _polled(bench, is_troubled=False),
        troubled=lambda: _polled(bench, is_troubled=True),
    )
    well, troubled = printed(found["well"]), printed(found["troubled"])
    return Outcome(
        [
            Row(
                "polling twelve accounts beside one that hangs, one expired, one rate-limited",
                "wall, all fifteen well = 1",
                "×",
                troubled.median / well.median,
                2.0,  # of one vendor two are polled at a time, and one of the two hangs
                1.2,
            )
        ],
        [
            Figure("polling twelve of fifteen accounts, all well: wall", "s", well),
            Figure("polling twelve of fifteen accounts, three in trouble: wall", "s", troubled),
        ],
    )


def _polled(bench: Bench, *, is_troubled: bool) -> Usage:
    with bench.data() as data:
        used = run(program("poll_accounts", int(is_troubled)), sync_environment(data, data))
    whole = int(used.output.split()[1])
    if whole != 12:
        raise WrongTotalsError(f"Of 12 accounts {whole} hold what their vendor told.")
    return used


CASES: dict[str, Callable[[Bench], Outcome]] = {
    "cold-scan": cold_scan,
    "cold-sync": cold_sync,
    "cold-sync-small": cold_sync_small,
    "unchanged": unchanged,
    "growth": growth,
    "history": history,
    "report": report_daily,
    "page": usage_page,
    "recorder": recorder,
    "dagster": dagster,
    "memory": memory,
    "ingest": ingest,
    "accounts": accounts,
}


def _both(name: str, usages: Sequence[Usage], unit: str = "s") -> list[Figure]:
    return [Figure(f"{name}, CPU", unit, cpu(usages)), Figure(f"{name}, wall", unit, wall(usages))]


def _peaks(usages: Sequence[Usage]) -> Samples:
    return Samples(tuple(used.peak for used in usages))


def _size(bench: Bench, corpus: Corpus) -> str:
    return f"Corpus: {bench.megabytes(corpus):,.0f} MB in {len(corpus.files()):,} files, {corpus.events:,} responses"
