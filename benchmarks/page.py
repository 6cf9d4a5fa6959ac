"""The page about a record, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_HEAD = """# Performance

What `./dev bench report` has measured: this page, its plots and [performance.json](performance.json) are made by that
one command ([how](howto/benchmarks.md)). Ours and its ceilings take turns in the same run; compare ratios, since single
figures depend on the machine.
"""
_RATIOS = """
Ratios of medians: 1 is as fast as the ceiling. *By CPU* is the ratio of what servers and database use for one
operation, which depends less on what else the machine does.
"""
_PARTS = ("client", "metadata", "storage", "postgres", "bare", "nginx")
_TOP = 12
_GIB = 1 << 30


def written(record: Mapping[str, Any], plots: Mapping[str, str]) -> str:
    """Write the page; `plots` says where the plot of each name is."""
    parts = [_HEAD, _run(record), "## Targets", _RATIOS, _targets(record), *_picture(plots, "targets")]
    parts += _unmet(record)
    parts += ["## Figures", _figures(record["measures"]), *_picture(plots, "latencies"), *_picture(plots, "cpu")]
    parts += _systems(record, plots)
    parts += _memory(record)
    for name, section in record["sections"].items():
        parts += _section(name, section, plots)
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _run(record: Mapping[str, Any]) -> str:
    machine, scenario = record["machine"], record["scenario"]
    rounds, workers = _several(scenario["rounds"], "round"), _several(scenario["workers"], "worker")
    return "\n".join(
        (
            f"* Made {record['made']} from {record['commit']}.",
            "* Clients, servers and database share the machine.",
            f"* {machine['cpus']} cores ({machine['processor'] or 'unknown'}), {machine['memory'] / _GIB:.0f} GiB.",
            f"* {machine['system']}, Python {machine['python']}.",
            f"* Load of the machine before the run: {machine['load']:.1f}.",
            f"* {rounds} of {scenario['seconds']:g} s after {scenario['warm_up']:g} s of warm-up.",
            f"* {scenario['concurrency']} clients, {workers} of each server.",
            f"* Large files have {scenario['large'] / (1 << 20):,.0f} MiB.",
        )
    )


def _several(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value).replace("|", "\\|")


def _number(value: float) -> str:
    """Write three digits that say something."""
    if abs(value) >= 100:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004


def _met(one: Mapping[str, Any]) -> bool:
    return bool(one["is"] <= one["wanted"] if one.get("better") == "less" else one["is"] >= one["wanted"])


def all_targets(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give those of the measures, then those of the sections."""
    found = list(record["targets"])
    for section in record["sections"].values():
        found += [{"main": True} | one for one in section.get("targets", ())]
    return found


def _targets(record: Mapping[str, Any]) -> str:
    rows = [
        (
            one["what"],
            one["is"],
            one.get("by_cpu") or "",
            ("≤ " if one.get("better") == "less" else "≥ ") + _number(float(one["wanted"])),
            said,
        )
        for one in sorted(all_targets(record), key=lambda one: not one["main"])
        for said in ["met" if _met(one) else "**not met**"]
    ]
    return _table(("target", "is", "by CPU", "wanted", ""), rows)


def _unmet(record: Mapping[str, Any]) -> list[str]:
    """Say where the time goes in what misses its target."""
    missed = [one for one in all_targets(record) if not _met(one)]
    if not missed:
        return []
    parts = ["### What stands in the way"]
    by_name = {one["name"]: one for one in record["measures"]}
    for one in missed:
        profile = record["profiles"].get(one.get("of", ""))
        parts += [
            f"**{one['what']}**: {_number(one['is'])} of {_number(float(one['wanted']))}. {one.get('why', '')}".rstrip()
        ]
        costs = [by_name[name] for name in (one.get("of"), one.get("to")) if name in by_name]
        if any(cost["cpu_ms"] for cost in costs):
            parts.append(_costs(costs))
        parts += _profile(profile) if profile else []
    return parts


def _costs(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = [part for part in _PARTS if any(part in one["cpu_ms"] for one in rows)]
    return _table(
        ("CPU ms of one operation (MiB, listing)", *parts),
        ((one["name"], *(one["cpu_ms"].get(part, 0.0) for part in parts)) for one in rows),
    )


def _profile(profile: Mapping[str, Any]) -> list[str]:
    parts = []
    for name, rows in profile["functions"].items():
        shown = [(f"{100 * row['self']:.1f} %", f"{100 * row['total']:.1f} %", f"`{row['function']}`") for row in rows]
        parts.append(_table(("self", "with callees", f"function of the {name} server"), shown[:_TOP]))
    rows = profile["statements"]
    if rows:
        shown = [(row["calls"], row["ms"], f"`{row['query']}`") for row in rows[:_TOP]]
        parts.append(_table(("calls for an operation", "ms for an operation", "statement"), shown))
    return parts


def _figures(measures: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in measures:
        latency = one["latency_ms"]
        low, high = one["quartiles"]
        cost = sum(value for part, value in one["cpu_ms"].items() if part != "client")
        rows.append(
            (
                one["name"],
                float(one["median"]),
                f"{_number(low)} … {_number(high)}",
                one["unit"],
                latency.get("p50", ""),
                latency.get("p99", ""),
                cost if one["cpu_ms"] else "",
                one["cpu_ms"].get("client", ""),
            )
        )
    head = ("measure", "median", "quartiles", "", "p50, ms", "p99, ms", "CPU of servers, ms", "of the client, ms")
    return _table(head, rows)


def _systems(record: Mapping[str, Any], plots: Mapping[str, str]) -> list[str]:
    rows = record["systems"]
    if not rows:
        return []
    left_out = "\n".join(f"* {one}" for one in record["left_out"])
    systems = list(dict.fromkeys(one["system"] for one in rows))
    cells = {(one["name"], one["system"]): one for one in rows}
    names = dict.fromkeys((one["name"], one["unit"]) for one in rows)
    table = _table(
        ("median", "", *systems),
        ((name, unit, *(_of_system(cells.get((name, one))) for one in systems)) for name, unit in names),
    )
    said = (
        "Each is asked the requests of its own standard, by the same client, in turn. What a system does not offer is"
        " named below. nginx and rclone flush nothing to the disk, and know no rights. Large files pushed to us go"
        " past the page cache, so that their first pull, which counts here, comes from the disk."
        " Quartiles and costs are in [performance.json](performance.json)."
    )
    pictures = [part for name in plots if name.startswith("systems-") for part in _picture(plots, name)]
    return ["## Beside other systems", said, table, left_out, *pictures]


def _of_system(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    latency = one["latency_ms"]
    return _number(one["median"]) + (f" (p99 {_number(latency['p99'])} ms)" if latency else "")


def _memory(record: Mapping[str, Any]) -> list[str]:
    rows = [(name, float(size)) for name, size in record["memory"].items()]
    return ["## Memory", _table(("largest process of", "MB, at most"), rows)] if rows else []


def _picture(plots: Mapping[str, str], name: str) -> list[str]:
    return [f"![{name}]({plots[name]})"] if name in plots else []


def _section(name: str, section: Mapping[str, Any], plots: Mapping[str, str]) -> list[str]:
    parts = [f"## {section.get('title', name)}", *section.get("text", ())]
    for table in section.get("tables", ()):
        parts += [f"### {table['title']}", _table(table["columns"], table["rows"])]
    for plot in section.get("plots", ()):
        parts += _picture(plots, plot["name"])
    return parts
