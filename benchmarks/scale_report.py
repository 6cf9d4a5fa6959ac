"""What `benchmarks.scale` has measured, as a section of the report and as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WANTED = 1.3
"""Most that an operation may cost in the large space, in terms of the small one."""
_TEXT = (
    "Two spaces of {small:,} and {large:,} nodes, each with a PostgreSQL of its own, are asked the same in turn, one "
    "request here and one there: {times} times each operation, by one client. Tables and indexes are in the memory of "
    "both. [What follows from it](explanation/scale.md)."
)
_COSTS = (("median_ms", "median, ms"), ("p99_ms", "p99, ms"), ("postgres_cpu_ms", "CPU, ms"), ("buffers", "pages"))
_MOMENTS = ("before", "after", "settled")


def section(found: Mapping[str, Any]) -> dict[str, Any]:
    """Give what the page shows, and as ``raw`` all figures."""
    small, large = found["nodes"]
    operations = found["operations"]
    times = max(one["large"]["times"] for one in operations.values())
    return {
        "title": f"Scale: {small:,} and {large:,} nodes",
        "text": [_TEXT.format(small=small, large=large, times=times)],
        "targets": [_worst(operations, "median_ms", "median"), _worst(operations, "p99_ms", "99th percentile")],
        "tables": [_costs(operations), _sizes(found["sizes"]), *(_churned(found["churn"]) if "churn" in found else ())],
        "raw": dict(found),
    }


def _worst(operations: Mapping[str, Any], of: str, called: str) -> dict[str, Any]:
    """Give the target that the least flat operation sets."""
    name = max(operations, key=lambda name: operations[name]["ratios"][of])
    ratios = operations[name]["ratios"]
    flat = sum(one["ratios"][of] <= WANTED for one in operations.values())
    return {
        "what": f"large space by small one, {called}: worst is {name} ({flat} of {len(operations)} met)",
        "is": ratios[of],
        "by_cpu": round(ratios["postgres_cpu_ms"], 2),
        "wanted": WANTED,
        "better": "less",
    }


def _costs(operations: Mapping[str, Any]) -> dict[str, Any]:
    rows = [
        [
            name,
            *(round(value, 2) for of, _ in _COSTS for value in (one["small"][of], one["large"][of], one["ratios"][of])),
        ]
        for name, one in operations.items()
    ]
    columns = ["operation", *(cell for _, called in _COSTS for cell in (f"{called}: small", "large", "ratio"))]
    return {"title": "Operations: latency, and CPU and pages of PostgreSQL", "columns": columns, "rows": rows}


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        [
            one["table"],
            round(sum(one["per_node"].values()), 1),
            round(one["per_row"], 1),
            ", ".join(f"{name} {size:.0f}" for name, size in one["per_node"].items() if size >= 1),
        ]
        for one in sizes
    ]
    return {"title": "Bytes per node", "columns": ["table", "per node", "per row", "of it"], "rows": rows}


def _churned(churn: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give tables and indexes before, after, and after autovacuum."""
    moments = [churn[name] for name in _MOMENTS]
    done = ", ".join(f"{number:,} {name}" for name, number in churn["operations"].items())
    tables = [[name, *_table(one["tables"][name] for one in moments)] for name in moments[0]["tables"]]
    indexes = [
        [name, *(round(one["indexes"][name][of], 1) for one in moments for of in ("megabytes", "density"))]
        for name in moments[0]["indexes"]
        if all(name in one["indexes"] for one in moments)
    ]
    three = ("before", "after", "after autovacuum")
    return [
        {
            "title": f"Churn: {done}",
            "columns": [
                "table",
                *(f"{what} {when}" for what in ("MB", "dead rows", "free %") for when in three),
                "HOT %",
            ],
            "rows": tables,
        },
        {
            "title": "Indexes: MB, and how full their leaf pages are",
            "columns": ["index", *(f"{what} {when}" for when in three for what in ("MB", "%"))],
            "rows": indexes,
        },
    ]


def _table(found: Any) -> list[float]:
    moments = list(found)
    updates, hot = (moments[-1][of] - moments[0][of] for of in ("updates", "hot"))
    cells = [round(one[of], 1) for of in ("megabytes", "rows_dead", "free") for one in moments]
    return [*cells, round(100 * hot / updates) if updates else 0]


def line(name: str, one: Mapping[str, Any]) -> str:
    """Write what one operation cost."""
    cells = (
        f"{one['small'][of]:8.2f} {one['large'][of]:8.2f} {one['ratios'][of]:5.2f}"
        for of in ("median_ms", "p99_ms", "postgres_cpu_ms", "buffers")
    )
    return f"{name:44} {' | '.join(cells)} {'' if one['flat'] else ' not flat'}"


def text(report: Mapping[str, Any]) -> str:
    """Write a report for people."""
    lines = [report["title"], *report["text"], ""]
    lines += [line(name, one) for name, one in report["raw"]["operations"].items()]
    for table in report["tables"][1:]:
        lines += ["", table["title"], "; ".join(table["columns"])]
        lines += [
            "  ".join(f"{cell!s:>{9 if place else 24}}" for place, cell in enumerate(row)) for row in table["rows"]
        ]
    return "\n".join(lines)
