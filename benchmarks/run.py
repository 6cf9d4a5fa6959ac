"""One command: run a scenario and print medians, ratios and what it cost.

    python -m benchmarks.run [--quick | --scenario FILE] [--workers N] [--rounds N] [--seconds S] [--json FILE]

Without a scenario it measures the pair beside its ceilings, on the disk of --folder (default: the working directory).
Quote ratios and medians: single figures depend on the machine and on what else it does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from benchmarks import arguments, record
from benchmarks.scenario import Scenario, ScenarioError, load
from benchmarks.systems import scratch

_GIVEN = ("workers", "rounds", "seconds", "concurrency", "large", "listings", "groups")
"""What options say otherwise than the scenario."""


def main() -> None:
    """Measure and report."""
    options = _options()
    scenario = chosen(options)
    with scratch(options.folder) as folder:
        found = record.take(scenario, folder)
    print(text(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure this server beside its ceilings, or any other by its URL.")
    add_options(parser, "standard")
    return parser.parse_args()


def add_options(parser: argparse.ArgumentParser, scenario: str) -> None:
    """Know what changes a scenario."""
    parser.add_argument("--scenario", default=scenario, help="a TOML file, or standard, quick or report")
    parser.add_argument("--quick", dest="scenario", action="store_const", const="quick", help="a minute: does it work?")
    parser.add_argument("--workers", type=int, help="processes of each server")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="length of a round")
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--large", type=int, help="bytes of a large file")
    parser.add_argument("--listings", type=arguments.counts, help="children of containers that are listed, with commas")
    parser.add_argument("--groups", type=_names, help="what is measured: nodes, small files …, with commas")
    parser.add_argument("--folder", type=arguments.folder, help="where to measure (a folder on the disk in question)")
    parser.add_argument("--json", type=arguments.file, help="write all figures to this file")


def _names(words: str) -> tuple[str, ...]:
    return tuple(words.split(","))


def chosen(options: argparse.Namespace) -> Scenario:
    """Read the scenario that the options name, with what they say otherwise; what cannot be done ends the program."""
    given = {name: getattr(options, name) for name in _GIVEN}
    try:
        scenario = load(options.scenario, **{name: value for name, value in given.items() if value is not None})
    except ScenarioError as error:
        sys.exit(f"scenario {options.scenario}: {error}")
    if missing := [
        f"{one.token} ({one.name})" for one in scenario.systems if one.token and one.token not in os.environ
    ]:
        sys.exit(f"scenario {options.scenario}: not in the environment: {', '.join(missing)}")
    return scenario


def text(found: dict[str, Any]) -> str:
    """Write all figures for a terminal."""
    lines = [f"{'':44} {'median':>10} {'min':>10} {'max':>10}  {'':8} {'p50 ms':>8} {'p99 ms':>8}"]
    lines += [_line(one, one["name"]) for one in found["measures"]]
    if found["systems"]:
        lines += ["", "by requests of the standards"]
        lines += [_line(one, f"{one['name']}: {one['system']}") for one in found["systems"]]
    lines += [f"left out: {one}" for one in found["left_out"]]
    lines += ["", f"{'what is promised':86} {'is':>6} {'promised':>9}"]
    lines += [f"{one['what']:86} {one['is']:6.2f} {one['wanted']:9.2f}" for one in found["targets"]]
    lines += ["", f"{'CPU of servers and database, ms for an operation or a MiB':86} {'is':>6} {'promised':>9}"]
    lines += [f"{one['of']:86} {one['milliseconds']:6.2f} {one['promised']:9.2f}" for one in found["cpu"]]
    lines += ["", "largest resident size of a process, MB"]
    lines += [f"{name:86} {size:6.0f}" for name, size in found["memory"].items()]
    return "\n".join(lines)


def _line(one: dict[str, Any], name: str) -> str:
    latency = one["latency_ms"]
    late = f"{latency['p50']:8.2f} {latency['p99']:8.2f}" if latency else ""
    row = f"{one['median']:10,.0f} {min(one['values']):10,.0f} {max(one['values']):10,.0f}  {one['unit']:8} {late}"
    return f"{name:44} {row}".rstrip()


if __name__ == "__main__":
    main()
