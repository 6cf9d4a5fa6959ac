"""The simulation of a billion nodes: queues behave as queues, and measured costs are taken over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.simulation import COSTS, PLANS, Cost, Plan, costs, demands, first, measure, simulate, text

ONE_CORE = Plan("one core", cores=1, nodes=1, metadata=1000, look_hours=84)
TEN_MS = {"get": Cost(1.0, 0.01, 10.0)}


def test_wait_at_one_server_is_that_of_the_formula() -> None:
    done = simulate(ONE_CORE, TEN_MS, 50.0, seconds=200.0)
    mean = sum(one.arrived - one.begun for one in done) / len(done)
    assert mean == pytest.approx(0.01 / (1 - 0.5), rel=0.2)  # M/M/1, half of the time busy
    assert not [one for one in done if one.refused]


def test_first_to_break_is_what_is_asked_for_most() -> None:
    name, rate = first(ONE_CORE, TEN_MS)
    assert name == "cores of a database"
    assert rate == pytest.approx(100.0, rel=0.01)
    more = demands(replace(ONE_CORE, cores=8), TEN_MS)["cores of a database"]
    assert more.most == pytest.approx(800.0, rel=0.01)


def test_who_waits_too_long_for_a_database_that_is_away_is_refused() -> None:
    done = simulate(ONE_CORE, TEN_MS, 50.0, seconds=60.0, away=(10.0, 40.0))
    refused = [one for one in done if one.refused]
    assert refused
    assert all(9.9 < one.begun < 40.0 for one in refused)
    assert not done[-1].refused


def test_memory_and_the_busiest_database() -> None:
    assert PLANS[0].hit() == 1.0
    assert 0.5 < Plan("one").hit() < Plan("eight", shards=8).hit() <= 1.0
    assert Plan("one").hottest() == pytest.approx(1.0)
    assert 1 / 32 < Plan("many", shards=32).hottest() < 0.1


def test_measured_costs_replace_those_of_the_source() -> None:
    figures = {"measures": [{"name": "getNode", "cpu_ms": {"metadata": 0.2, "postgres": 0.3, "client": 9.0}}]}
    scale = {"operations": {"createNode": {"small": {"postgres_cpu_ms": 0.5}}}}
    found = costs(figures, scale)
    assert (found["getNode"].metadata, found["getNode"].postgres) == (0.2, 0.3)
    assert (found["createNode"].postgres, found["createNode"].metadata) == (0.5, COSTS["createNode"].metadata)
    assert found["setNode"] == COSTS["setNode"]


def test_report_has_a_row_for_each_installation() -> None:
    found = measure(figures="", requests=100)
    most = next(table for table in found["tables"] if table["title"] == "What breaks first")
    assert [row[0] for row in most["rows"]] == [plan.name for plan in PLANS]
    assert "What breaks first" in text(found)
