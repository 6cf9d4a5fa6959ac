"""What came of a soak: promises kept and broken, latencies, memory, and whose fault the failures were."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from benchmarks.soak_clients import BYTES, OPERATIONS
from benchmarks.soak_faults import FAULTS, excuse
from benchmarks.soak_watch import Growth, growth, series_of_tables

if TYPE_CHECKING:
    from benchmarks.soak import Done, Load, Options

_LARGEST: Final = 1.25
"""How much larger a process may be late than early."""
_SLOWEST: Final = 1.5
"""The same of latencies, which other programs on the machine change as well; it breaks nothing."""
_WARM: Final = 1.0
"""Minutes below which nothing can be said of growth: processes are still reading their modules."""
_SMALL: Final = 10.0
"""MB by which anything may differ."""
_CONNECTIONS: Final = 20
"""Files that a process opens by itself as it gets to work: connections to the database, for the most part."""
_SHOWN: Final = 20
_KEEP: Final = 1000
_LETTERS: Final = 200
_MILLI: Final = 1000.0
_TEXT: Final = (
    "{clients} clients, {workers} workers of each server and a second storage server on a small disk. The peak of the "
    "mix was {peak:.0f} operations a second; {rate:.0f} a second were due at random moments during {minutes:g} min, "
    "whether answers came or not, and latencies count from these moments. A failure belongs to a fault if it is of a "
    "kind that this fault can cause, at the server and in the folders that it can touch, while it was there or soon "
    "after.{without}"
)
_KEPT: Final = (
    "The clients kept {files} files at most, of {large:.0f} MB at the large place and {small:.0f} MB at the small one; "
    "of the small disk {used:.0f} MB were used while nothing filled it, with what was still to be deleted."
)
_HELD: Final = "The servers held this rate: outside of faults every operation found a free client within ten seconds."
_NOT_HELD: Final = (
    "THE RATE WAS MORE THAN THE SERVERS HELD: outside of faults {quiet} operations of {due} found no free client "
    "within ten seconds ({all} in all), so that latencies tell of the queue."
)


def report(load: Load, options: Options, *, without: str) -> dict[str, Any]:
    """Give it in the form of all sections of the report."""
    failed = [
        (one, excuse(load.struck, one.place, one.due, one.ended, one.failure)) for one in load.done if one.failure
    ]
    unexplained = [_told(one) for one, fault in failed if not fault]
    targets = [*_promises(load, unexplained), *(_sizes(load) if options.minutes >= _WARM else ())]
    broken = [one["what"] for one in targets if _missed(one)]
    return {
        "title": "Soak",
        "text": [
            _TEXT.format(
                clients=len(load.clients), workers=options.workers, peak=load.peak, rate=load.rate,
                minutes=options.minutes, without=f" Left out: {without}." if without else "",
            ),
            held(load),
            _kept(load),
            *(f"Wrong: {one}" for one in load.wrong[:_SHOWN]),
        ],
        "targets": [*targets, *_latencies_stay(load, options)],
        "tables": [
            {"title": "Faults, and the failures that are theirs", **_faults(load, failed)},
            {"title": "Operations, in milliseconds", **_operations(load)},
            {"title": "Processes, in the second quarter of their time and in the last one", **_processes(load)},
            {"title": "Tables of the database", **_tables(load)},
            *([{"title": "Failures that no fault explains", **classes(failed)}] if unexplained else ()),
        ],
        "plots": _plots(load, options),
        "raw": {
            "broken": broken, "wrong": load.wrong, "unexplained": unexplained[:_KEEP], "peak": load.peak,
            "rate": load.rate, "done": len(load.done) - len(failed), "failed": len(failed), "unsent": len(load.unsent),
        },
    }  # fmt: skip


def held(load: Load) -> str:
    """Say whether the rate was one that can be held: what is due while a fault lasts may have to wait."""
    quiet = sum(1 for one in load.unsent if _quiet(load, one.due, one.ended))
    return (
        _NOT_HELD.format(quiet=quiet, due=len(load.done) + len(load.unsent), all=len(load.unsent)) if quiet else _HELD
    )


def _kept(load: Load) -> str:
    quiet = [one.used for one in load.filling if _quiet(load, one.at, one.at)]
    most = {name: max((getattr(one, name) for one in load.filling), default=0) for name in ("files", "large", "small")}
    return _KEPT.format(**most, used=max(quiet, default=0.0))


def classes(failed: list[tuple[Done, str]]) -> dict[str, Any]:
    """Count what no fault explains by what it was, the most frequent first."""
    classes: dict[tuple[str, ...], list[Done]] = {}
    for one, fault in sorted(failed, key=lambda pair: pair[0].due):
        if one.failure and not fault:
            classes.setdefault((one.failure.kind, one.failure.fault, one.failure.part, one.place), []).append(one)
    rows = [
        [*of, len(ones), round(ones[0].due, 1), round(ones[-1].due, 1), ones[0].operation, _words(ones[0])]
        for of, ones in sorted(classes.items(), key=lambda pair: -len(pair[1]))
    ]
    columns = ["status", "fault", "server", "place", "number", "first at, s", "last at, s", "first of", "its words"]
    return {"columns": columns, "rows": rows}


def _words(one: Done) -> str:
    return re.sub(r"\s+", " ", str(one.failure).split(": ", 1)[-1])[:_LETTERS]


def _promises(load: Load, unexplained: list[str]) -> list[dict[str, Any]]:
    written = sum(client.acknowledged for client in load.clients)
    in_doubt = sum(client.unread_in_doubt() for client in load.clients)
    read = sum(client.read_back for client in load.clients) + in_doubt
    return [
        _least("failures that no fault explains", len(unexplained), 0),
        _least("answers that break a promise", len(load.wrong), 0),
        {
            "what": f"share of {written} acknowledged writes that were read back ({in_doubt} of names in doubt)",
            "is": read / written if written else 1.0,
            "wanted": 1.0,
            "better": "more",
            "why": "",
        },
    ]


def _sizes(load: Load) -> Iterable[dict[str, Any]]:
    """Judge our own processes; PostgreSQL's memory fills up to its settings, and is only shown.

    A process that has begun in the middle has at the end a connection of each client, whom others served before, and
    more of its own to the database.
    """
    most = len(load.clients) + _CONNECTIONS
    for part in load.history.parts():
        for what, word, small in (("rss", "memory", _SMALL), ("files", "open files", most)):
            found = load.history.growth(part, what)
            if part != "PostgreSQL":
                ratio = found.ratio if found.late - found.early > small else min(found.ratio, 1.0)
                yield _least(f"{word} of {part}, late / early", ratio, _LARGEST)


def _latencies_stay(load: Load, options: Options) -> Iterable[dict[str, Any]]:
    for title, wanted in _GROUPS.items():
        for share, word in ((0.5, "p50"), (0.99, "p99")):
            found = _drift(load, options, wanted, share)
            yield _least(f"{word} of {title} in quiet time, late / early", found.ratio, _SLOWEST)


def _least(what: str, value: float, wanted: float) -> dict[str, Any]:
    return {"what": what, "is": round(value, 3), "wanted": wanted, "better": "less", "why": ""}


def _missed(target: dict[str, Any]) -> bool:
    more = target["better"] == "more"
    return bool(target["is"] < target["wanted"] if more else target["is"] > target["wanted"])


def _told(one: Done) -> str:
    return f"{one.due:.1f} to {one.ended:.1f} s, {one.operation} at the {one.place} place: {one.failure}"


_Wanted = Callable[["Done"], bool]
_GROUPS: Final[dict[str, _Wanted]] = {
    "operations on nodes": lambda one: one.operation not in BYTES,
    "transfers of bytes": lambda one: one.operation in BYTES,
}


def _quiet(load: Load, begun: float, ended: float) -> bool:
    return not any(one.covers(begun, ended) for one in load.struck)


def _bins(load: Load, options: Options, wanted: _Wanted) -> dict[float, list[float]]:
    """Give latencies in milliseconds by the window in which an operation was due."""
    width = max(1.0, options.minutes)  # 60 of them
    found: dict[float, list[float]] = {}
    for one in load.done:
        if wanted(one) and one.failure is None:
            found.setdefault(width * (one.due // width + 0.5), []).append(_MILLI * (one.ended - one.due))
    return dict(sorted(found.items()))


def _drift(load: Load, options: Options, wanted: _Wanted, share: float) -> Growth:
    width = max(1.0, options.minutes)
    bins = {
        at: percentile(values, share)
        for at, values in _bins(load, options, wanted).items()
        if _quiet(load, at - width / 2, at + width / 2)
    }
    return growth(list(bins), list(bins.values())) if bins else Growth(0.0, 0.0, 0.0)


def percentile(values: Sequence[float], share: float) -> float:
    """Give the value below which this share of them is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _faults(load: Load, failed: list[tuple[Done, str]]) -> dict[str, Any]:
    texts = {one.name: one.text for one in FAULTS}
    rows = []
    for struck in load.struck:
        theirs = [
            one for one, fault in failed if fault == struck.name and struck.covers(one.due, one.ended) and one.failure
        ]
        kinds = Counter(f"{one.failure.kind} by {one.failure.part}" for one in theirs if one.failure)
        rows.append(
            [
                texts[struck.name], round(struck.begun, 1), round(struck.ended - struck.begun, 1), len(theirs),
                ", ".join(f"{number} of {kind}" for kind, number in kinds.most_common()) or "none",
                round(max((one.ended for one in theirs), default=struck.begun) - struck.begun, 1),
            ]
        )  # fmt: skip
    columns = ["fault", "at, s", "lasted, s", "failures", "of the kind", "the last one after, s"]
    return {"columns": columns, "rows": rows}


def _operations(load: Load) -> dict[str, Any]:
    rows = []
    for operation in OPERATIONS:
        ours = [one for one in load.done if one.operation == operation]
        good = [one for one in ours if one.failure is None]
        quiet = [_MILLI * (one.ended - one.due) for one in good if _quiet(load, one.due, one.ended)]
        everywhere = [_MILLI * (one.ended - one.due) for one in good]
        figures = (percentile(quiet, 0.5), percentile(quiet, 0.99), percentile(everywhere, 0.5),
                   percentile(everywhere, 0.99))  # fmt: skip
        rows.append([operation, len(ours), len(ours) - len(good), *(round(one, 1) for one in figures)])
    columns = ["operation", "number", "failed", "p50, quiet", "p99, quiet", "p50, all", "p99, all"]
    return {"columns": columns, "rows": rows}


def _processes(load: Load) -> dict[str, Any]:
    columns, rows = ["part", "figure", "early", "late", "in an hour"], []
    for part in load.history.parts():
        for what, word in (("rss", "resident, MB"), ("pss", "its share of memory, MB"), ("files", "open files")):
            found = load.history.growth(part, what)
            rows.append([part, word, round(found.early, 1), round(found.late, 1), f"{found.hourly:+.1f}"])
    return {"columns": columns, "rows": rows}


def _tables(load: Load) -> dict[str, Any]:
    columns = ["table", "MB at the beginning", "MB at the end", "rows", "dead rows"]
    if not load.history.tables:
        return {"columns": columns, "rows": []}
    first, last = load.history.tables[0][1], load.history.tables[-1][1]
    largest = sorted(last, key=lambda name: -last[name]["bytes"])[:12]
    return {
        "columns": columns,
        "rows": [
            [name, round(first[name]["bytes"] / 1e6, 1), round(last[name]["bytes"] / 1e6, 1), last[name]["live"],
             last[name]["dead"]]
            for name in largest
        ],
    }  # fmt: skip


def _plots(load: Load, options: Options) -> list[dict[str, Any]]:
    marks = [{"x": round(one.begun, 1), "name": one.name} for one in load.struck]
    parts = load.history.parts()
    kinds = {
        "soak-latency": ("Latency during the soak", "milliseconds", "y", _latency_lines(load, options)),
        "soak-memory": ("Largest process of each part", "resident, MB", "", _lines_of(load, parts, "rss")),
        "soak-files": ("Open files of the largest process", "files", "", _lines_of(load, parts, "files")),
        "soak-disk": ("Small disk, and what is in it", "MB", "", _filling_lines(load)),
        "soak-tables": ("Largest tables", "MB", "", series_of_tables(load.history, 6)),
    }
    return [
        {"name": name, "title": title, "kind": "lines", "x": "seconds", "y": unit, "log": log, "lines": lines,
         "marks": marks}
        for name, (title, unit, log, lines) in kinds.items()
    ]  # fmt: skip


def _latency_lines(load: Load, options: Options) -> list[dict[str, Any]]:
    lines = []
    for title, wanted in _GROUPS.items():
        bins = _bins(load, options, wanted)
        for share, word in ((0.5, "p50"), (0.99, "p99")):
            values = [round(percentile(one, share), 2) for one in bins.values()]
            lines.append({"name": f"{title}, {word}", "x": list(bins), "y": values})
    return lines


def _filling_lines(load: Load) -> list[dict[str, Any]]:
    x = [round(one.at, 1) for one in load.filling]
    names = {"used": "used", "small": "files of clients"}
    return [
        {"name": words, "x": x, "y": [round(getattr(one, name), 2) for one in load.filling]}
        for name, words in names.items()
    ]


def _lines_of(load: Load, parts: list[str], what: str) -> list[dict[str, Any]]:
    lines = []
    for part in parts:
        times, values = load.history.of(part, what)
        x, y = [round(one, 1) for one in times], [round(one, 1) for one in values]
        lines.append({"name": part, "x": x, "y": y})
    return lines


def text(found: dict[str, Any]) -> str:
    """Write a section for a terminal."""
    lines = [*found["text"], ""]
    for one in found["targets"]:
        mark = "not met" if _missed(one) else "met"
        lines.append(
            f"{one['what']:90} {one['is']:8g} {'>=' if one['better'] == 'more' else '<='} {one['wanted']:g}  {mark}"
        )
    for table in found["tables"]:
        cells = [list(map(str, row)) for row in (table["columns"], *table["rows"])]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["", table["title"]]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
    return "\n".join(lines)
