"""Plots of a record, as SVG: bars and lines, with nothing in them that changes without the figures."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_STYLE = {
    "svg.hashsalt": "pyvospace",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_WIDTH, _ROW = 8.0, 0.34


def available() -> bool:
    """Tell whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(folder: Path, plot: Mapping[str, Any]) -> Path:
    """Draw one plot of a section: lines, or bars that lie one below the other."""
    mpl, figures = importlib.import_module("matplotlib"), importlib.import_module("matplotlib.figure")

    with mpl.rc_context(_STYLE):
        bars = plot.get("kind", "lines") == "bars"
        figure = figures.Figure(figsize=(_WIDTH, _height(plot) if bars else 3.6), layout="constrained")
        axes = figure.subplots()
        (_bars if bars else _lines)(axes, plot)
        figure.suptitle(plot["title"], x=0.01, ha="left", fontsize=10)
        axes.set_xlabel(plot.get("x", ""))
        axes.set_ylabel(plot.get("y", ""))
        for axis in plot.get("log", ""):
            getattr(axes, f"set_{axis}scale")("log")
        if any(line.get("name") for line in plot["lines"]):
            axes.legend(fontsize=8)
        target = folder / f"{plot['name']}.svg"
        figure.savefig(target, metadata={"Date": None})
    return target


def _lines(axes: Any, plot: Mapping[str, Any]) -> None:
    for line in plot["lines"]:
        axes.plot(line["x"], line["y"], label=line.get("name", ""), linewidth=1.2, marker="." if _few(line) else "")
    for mark in plot.get("marks", ()):
        axes.axvline(mark["x"], color="crimson", linewidth=0.8, linestyle=":")
        axes.annotate(
            mark["name"], (mark["x"], 1.0), xycoords=("data", "axes fraction"), rotation=90, fontsize=7, va="top"
        )


def _few(line: Mapping[str, Any]) -> bool:
    return len(line["x"]) < 50  # noqa: PLR2004


def _bars(axes: Any, plot: Mapping[str, Any]) -> None:
    """Each line is one kind of bar: x says what is measured, y how much; `stacked` puts them on each other."""
    lines = plot["lines"]
    names = _names(lines)
    places = {name: len(names) - number for number, name in enumerate(names)}
    ends = dict.fromkeys(names, 0.0)
    width = 0.8 if plot.get("stacked") else 0.8 / len(lines)
    for number, line in enumerate(lines):
        shift = 0.0 if plot.get("stacked") else 0.4 - width * (number + 0.5)
        left = [ends[name] for name in line["x"]] if plot.get("stacked") else 0.0
        axes.barh([places[name] + shift for name in line["x"]], line["y"], width, left=left, label=line.get("name", ""))
        for name, value in zip(line["x"], line["y"], strict=True):
            ends[name] += value
    axes.set_yticks(list(places.values()), list(places))
    axes.grid(visible=False, axis="y")
    for mark in plot.get("marks", ()):
        axes.axvline(mark["x"], color="crimson", linewidth=1.0, linestyle="--")


def _height(plot: Mapping[str, Any]) -> float:
    bars = 1 if plot.get("stacked") else len(plot["lines"])
    return 1.0 + _ROW * len(_names(plot["lines"])) * max(1.0, 0.6 * bars)


def _names(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(name) for line in lines for name in line["x"]))


def of_record(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say what is drawn of the measures themselves."""
    by_name = {one["name"]: one for one in record["measures"]}
    plots = [_targets(record), _latencies(record), _cpu(record, by_name), *_systems(record)]
    return [plot for plot in plots if plot["lines"] and plot["lines"][0]["x"]]


def _targets(record: Mapping[str, Any]) -> dict[str, Any]:
    judged = [one for one in record["targets"] if one["main"]]
    line = {"x": [one["what"] for one in judged], "y": [one["is"] / one["wanted"] for one in judged]}
    return {
        "name": "targets",
        "title": "What was reached of each target (1 is the target)",
        "kind": "bars",
        "lines": [line],
        "marks": [{"x": 1.0}],
    }


def _latencies(record: Mapping[str, Any]) -> dict[str, Any]:
    known = [one for one in record["measures"] if one["latency_ms"] and one["unit"] == "1/s"]
    lines = [
        {"name": name, "x": [one["name"] for one in known], "y": [one["latency_ms"][key] for one in known]}
        for key, name in (("p50", "median"), ("p99", "99th percentile"))
    ]
    clients = record["scenario"]["concurrency"]
    return {
        "name": "latencies",
        "title": f"Latency with {clients} clients that ask without a pause",
        "kind": "bars",
        "x": "milliseconds",
        "log": "x",
        "lines": lines,
    }


def _cpu(record: Mapping[str, Any], by_name: Mapping[str, Any]) -> dict[str, Any]:
    shown = [one for one in record["measures"] if one["unit"] == "1/s" and one["cpu_ms"]]
    parts = dict.fromkeys(part for one in shown for part in one["cpu_ms"] if part != "client")
    names = [one["name"] for one in shown]
    lines = [
        {"name": part, "x": names, "y": [by_name[name]["cpu_ms"].get(part, 0.0) for name in names]} for part in parts
    ]
    return {
        "name": "cpu",
        "title": "CPU of one operation, by who uses it",
        "kind": "bars",
        "stacked": True,
        "x": "milliseconds",
        "lines": lines,
    }


def _systems(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in record["systems"]:
        found.setdefault(one["unit"], []).append(one)
    return [_beside(number, unit, rows) for number, (unit, rows) in enumerate(found.items(), 1)]


def _beside(number: int, unit: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    systems = dict.fromkeys(one["system"] for one in rows)
    lines = []
    for system in systems:
        own = [one for one in rows if one["system"] == system]
        lines.append({"name": system, "x": [one["name"] for one in own], "y": [one["median"] for one in own]})
    return {
        "name": f"systems-{number}",
        "title": "Beside other systems, by requests of the standards",
        "kind": "bars",
        "x": unit,
        "log": "x",
        "lines": lines,
    }
