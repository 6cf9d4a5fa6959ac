"""One command for docs/performance.md: everything is measured, judged, profiled where it falls short, and written down.

    python -m benchmarks.report [--scenario FILE | --quick] [--only SECTIONS] [--target FOLDER] [--from FILE]

It writes performance.json, performance.md and the plots in performance/, and so again after each further part. With
--from it measures nothing but what --only names, and writes the page anew from the figures of that file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from inspect import signature
from pathlib import Path
from typing import Any

from benchmarks import arguments, page, plots, profiles, record
from benchmarks.run import add_options, chosen, text
from benchmarks.scenario import Scenario
from benchmarks.systems import scratch

_DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Measure everything and write docs/performance.md.")
    add_options(parser, "report")
    parser.add_argument("--target", type=Path, default=_DOCS, help="folder of the page")
    parser.add_argument("--only", help="measure these sections again, with commas, and keep all else of --from")
    parser.add_argument("--from", dest="known", type=arguments.figures, help="figures that are known already")
    options = parser.parse_args()
    if options.known and not {"measures", "sections"} <= options.known.keys():
        parser.error("--from needs the performance.json of a report")
    scenario = chosen(options)
    names = _sections(scenario, options)
    if wrong := [why for name in names if (why := _unknown(name, scenario))]:
        sys.exit(f"benchmarks: {'; '.join(wrong)}")
    found = options.known or _measured(scenario, options)
    write(found, options.target)
    for name in names:
        print(f"{name} …", flush=True)
        with scratch(options.folder) as folder:
            known = {"figures": str(options.target / "performance.json")}
            found["sections"][name] = _section(name, folder, {**known, **scenario.sections.get(name, {})})
        write(found, options.target)


def _measured(scenario: Scenario, options: argparse.Namespace) -> dict[str, Any]:
    with scratch(options.folder) as folder:
        found = record.take(scenario, folder)
    print(text(found), flush=True)
    return found | {"sections": {}, "profiles": _profiles(scenario, found, options.folder)}


def _sections(scenario: Scenario, options: argparse.Namespace) -> tuple[str, ...]:
    """Choose what is measured further: what was asked for, or everything unless the figures are known."""
    if options.only is not None:
        return tuple(options.only.split(","))
    return () if options.known else tuple(scenario.sections)


def _unknown(name: str, scenario: Scenario) -> str:
    """Say why a section cannot be measured, before an hour has gone by; empty: it can."""
    try:
        signature(importlib.import_module(f"benchmarks.{name}").measure).bind(Path(), **scenario.sections.get(name, {}))
    except (ImportError, AttributeError):
        return f"there is no section {name}"
    except TypeError as error:
        return f"section {name}: {error}"
    return ""


def _section(name: str, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Run a module of benchmarks that measures for itself; if it fails, the page says so.

    What reckons with known figures takes those of this report, unless the options name others.
    """
    try:
        module = importlib.import_module(f"benchmarks.{name}")
        if "figures" not in signature(module.measure).parameters:
            options.pop("figures", None)
        return dict(module.measure(folder, **options))
    except Exception as error:  # noqa: BLE001
        traceback.print_exc()
        return {"title": name, "text": [f"Not measured: {error}"]}


def _profiles(scenario: Scenario, known: dict[str, Any], parent: Path | None) -> dict[str, Any]:
    missed = [one["of"] for one in known["targets"] if one["main"] and not one["met"]]
    if not missed or not scenario.profile_seconds:
        return {}
    with scratch(parent) as folder:
        return profiles.take(folder, missed, seconds=scenario.profile_seconds, concurrency=scenario.concurrency)


def write(found: dict[str, Any], target: Path) -> None:
    """Write figures, plots and page."""
    pictures = target / "performance"
    pictures.mkdir(parents=True, exist_ok=True)
    (target / "performance.json").write_text(json.dumps(found, indent=1) + "\n")
    drawn = {}
    if plots.available():
        wanted = plots.of_record(found)
        wanted += [plot for section in found["sections"].values() for plot in section.get("plots", ())]
        drawn = {plot["name"]: f"performance/{plots.draw(pictures, plot).name}" for plot in wanted}
        for old in set(pictures.glob("*.svg")) - {target / one for one in drawn.values()}:
            old.unlink()
    else:
        print("no matplotlib: the page has no plots (pip install matplotlib)", file=sys.stderr)
    (target / "performance.md").write_text(page.written(found, drawn))


if __name__ == "__main__":
    main()
