"""Scenarios, the page, and what else of the benchmarks has to be right whatever the figures are."""

from __future__ import annotations

import asyncio
import re
import xml.etree.ElementTree as ET
from argparse import ArgumentTypeError
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from benchmarks import arguments, others, page, plots, profiles, report, targets
from benchmarks.bare import Files
from benchmarks.clients import DavClient, services
from benchmarks.measures import Series, write_random
from benchmarks.record import as_values
from benchmarks.scenario import Other, Scenario, ScenarioError, as_json, load

SCENARIOS = sorted((Path(report.__file__).parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenarios_of_ours_are_read(path: Path) -> None:
    assert load(path) == load(path.stem)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("rouds = 5", "rouds"),
        ("rounds = 0", "rounds: "),
        ("rounds = ", "Invalid value"),
        ('groups = ["nodez"]', "groups.0: "),
        ('systems = [{name = "x", kind = "webdav", url = "dav.example.org"}]', "x: dav.example.org is no URL"),
        ('systems = [{name = "x", kind = "vospace", url = "http://x", folder = "/"}]', "x needs its `authority`"),
    ],
)
def test_a_wrong_scenario_is_refused_in_words(tmp_path: Path, words: str, said: str) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(words)
    with pytest.raises(ScenarioError, match=re.escape(said)):
        load(wrong)


def test_options_are_checked_like_the_scenario() -> None:
    assert load("quick", rounds=3).rounds == 3
    with pytest.raises(ScenarioError, match="seconds"):
        load("quick", seconds=-1.0)


def test_what_comes_at_the_end_of_an_hour_is_checked_at_its_beginning(tmp_path: Path) -> None:
    assert not report._unknown("workers", Scenario(sections={"workers": {"rounds": 1}}))
    assert "minuets" in report._unknown("simulation", Scenario(sections={"simulation": {"minuets": 1}}))
    assert "no section run" in report._unknown("run", Scenario())
    for wrong in (tmp_path, tmp_path / "nowhere" / "figures.json"):
        with pytest.raises(ArgumentTypeError):
            arguments.file(str(wrong))
    assert arguments.file(str(tmp_path / "figures.json")) == tmp_path / "figures.json"


def test_a_target_is_met_or_not_and_so_by_cpu() -> None:
    medians = {"getNode": 600.0, "bare handler, one prepared query": 1000.0, "listing of 100,000 children": 160_000.0}
    found = {
        one["of"]: one for one in targets.judged(medians, {"getNode": 0.5, "bare handler, one prepared query": 0.4})
    }
    assert (found["getNode"]["is"], found["getNode"]["met"]) == (0.6, False)
    assert found["getNode"]["by_cpu"] == 0.8
    assert found["listing of 100,000 children"]["met"]
    assert "createNode" not in found


def test_functions_are_added_up_and_waiting_is_left_out() -> None:
    stacks = "run;handle;render 6\nrun;handle 2\nrun;EpollSelector.select (selectors.py:451) 90\n"
    assert profiles.top(stacks) == [
        {"function": "render", "self": 0.75, "total": 0.75},
        {"function": "handle", "self": 0.25, "total": 1.0},
    ]


def _record() -> dict[str, Any]:
    ours, other = Series("getNode", "1/s"), Series("one entry", "1/s", system="an | other")
    for series, value in ((ours, 600.0), (other, 1234.5)):
        series.values += [value, value + 10, value - 10]
        series.latencies([0.001, 0.002, 0.004])
        series.used({"metadata": 0.5, "client": 0.1}, 1000)
    medians = {"getNode": 600.0, "bare handler, one prepared query": 1000.0}
    return {
        "made": "2026-11-21",
        "commit": "abc",
        "machine": {"cpus": 2, "processor": "", "memory": 1 << 34, "system": "Linux", "python": "3.13", "load": 0.1},
        "scenario": as_json(load("quick")),
        "measures": [as_values(ours)],
        "targets": targets.judged(medians, {}),
        "memory": {"metadata": 90.0},
        "systems": [as_values(other)],
        "left_out": ["third: 405"],
        "profiles": {
            "getNode": {
                "functions": {"metadata": [{"function": "render", "self": 0.5, "total": 0.75}]},
                "statements": [{"query": "select 1", "calls": 1.0, "ms": 0.25}],
            }
        },
        "sections": {
            "soak": {
                "title": "A minute of load",
                "text": ["Nothing was lost."],
                "targets": [{"what": "growth", "is": 1.5, "wanted": 1.2, "better": "less", "why": "A leak."}],
                "tables": [{"title": "Faults", "columns": ["fault", "errors"], "rows": [["kill -9", 3]]}],
                "plots": [
                    {
                        "name": "soak-memory",
                        "title": "Memory",
                        "lines": [{"name": "metadata", "x": [0, 1], "y": [90, 91]}],
                        "marks": [{"x": 0.5, "name": "kill -9"}],
                    }
                ],
            }
        },
    }


def test_the_page_tells_targets_profiles_systems_and_sections(tmp_path: Path) -> None:
    report.write(_record(), tmp_path)
    text = (tmp_path / "performance.md").read_text()
    assert "| getNode / bare handler, one prepared query | 0.60 |  | ≥ 0.70 | **not met** |" in text
    assert "| growth | 1.50 |  | ≤ 1.20 | **not met** |" in text
    assert "| 50.0 % | 75.0 % | `render` |" in text
    assert "| median |  | an \\| other |" in text
    assert "* third: 405" in text
    assert "## A minute of load" in text
    for name in ("targets", "latencies", "cpu", "systems-1", "soak-memory"):
        assert f"(performance/{name}.svg)" in text
        ET.parse(tmp_path / "performance" / f"{name}.svg")


def test_a_plot_of_the_same_figures_is_the_same_file(tmp_path: Path) -> None:
    plot = plots.of_record(_record())[0]
    assert plots.draw(tmp_path, plot).read_bytes() == plots.draw(tmp_path, plot).read_bytes()


def test_the_page_without_plots_and_sections() -> None:
    record = _record() | {"sections": {}, "systems": [], "profiles": {}, "memory": {}}
    assert "![" not in page.written(record, {})


async def test_files_that_end_together_are_all_there(tmp_path: Path) -> None:
    files, app = Files(tmp_path), web.Application()
    app.router.add_put("/{name}", files.put)
    app.router.add_get("/{name}", files.get)
    async with TestClient(TestServer(app)) as client:
        answers = await asyncio.gather(*(client.put(f"/{number}", data=b"%d" % number) for number in range(40)))
        assert {one.status for one in answers} == {201}
        assert await (await client.get("/17")).read() == b"17"
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {f"{n}": b"%d" % n for n in range(40)}


def test_services_are_found_by_their_identifiers() -> None:
    found = services(b"""<vosi:capabilities xmlns:vosi="http://www.ivoa.net/xml/VOSICapabilities/v1.0">
      <capability standardID="ivo://ivoa.net/std/VOSpace/v2.0#nodes"><interface>
        <accessURL use="base">https://example.org/arc/nodes</accessURL></interface></capability>
      <capability standardID="ivo://ivoa.net/std/VOSpace#sync-2.1"><interface>
        <accessURL use="base"> https://example.org/arc/synctrans </accessURL></interface></capability>
      <capability standardID="ivo://ivoa.net/std/VOSpace/v2.0#transfers"><interface>
        <accessURL>https://example.org/arc/transfers</accessURL></interface></capability>
    </vosi:capabilities>""")
    assert found == {"nodes": "https://example.org/arc/nodes", "sync": "https://example.org/arc/synctrans"}
    with pytest.raises(RuntimeError, match=r"\[\]"):
        services(b"<capabilities/>")


async def test_webdav_is_asked_as_its_standard_has_it() -> None:
    kept: dict[str, bytes] = {}
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", _dav(kept))
    async with TestServer(app) as server:
        client = DavClient(str(server.make_url("/run")), user="me:secret")
        await client.prepare()
        await client.create("empty")
        await client.push("a file", b"content")
        assert await client.pull("a file") == b"content"
        await client.look()
        assert await client.listing() == 2
        await client.delete("empty")
        assert list(kept) == ["run/", "run/a file"]
        await client.finish()


async def test_a_system_is_measured_by_its_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAV_USER", "me:secret")
    kept: dict[str, bytes] = {}
    app = web.Application(client_max_size=1 << 21)
    app.router.add_route("*", "/{path:.*}", _dav(kept, lists=False))
    async with TestServer(app) as server:
        other = Other(name="dav", kind="webdav", url=str(server.make_url("/")), token="DAV_USER")
        scenario = Scenario(
            systems=(other,), warm_up=0.0, rounds=2, seconds=0.05, concurrency=2, compared=1 << 20, children=3
        )
        found = await asyncio.to_thread(others.measure, scenario, tmp_path, None)
    assert {one.name for one in found.series} == {
        "new empty entry (createNode, PUT)",
        "push of 1 KiB",
        "pull of 1 KiB",
        "delete of one",
        "push of a large file",
        "pull of a large file",
    }
    assert all(one.system == "dav" and len(one.values) == 2 for one in found.series)
    assert found.memory["dav"] > 0
    assert [one.split("/")[0] for one in found.left_out] == ["dav: look: PROPFIND ", "dav: list: PROPFIND "]
    assert not [name for name in kept if name.endswith("/")], "the folders of the run are deleted"


def _dav(kept: dict[str, bytes], *, lists: bool = True) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Behave like a WebDAV server that keeps its files in memory."""

    async def serve(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Basic ")
        path = request.match_info["path"]
        match request.method:
            case "MKCOL":
                kept[path] = b""
                return web.Response(status=201)
            case "PUT":
                kept[path] = await request.read()
                return web.Response(status=201)
            case "PROPFIND" if lists:
                found = kept if request.headers["Depth"] == "1" else [path]
                answers = "".join(f"<D:response><D:href>/{one}</D:href></D:response>" for one in found)
                return web.Response(status=207, text=f"<D:multistatus xmlns:D='DAV:'>{answers}</D:multistatus>")
            case "DELETE":
                return web.Response(status=204 if kept.pop(path, None) is not None else 404)
            case "GET":
                return web.Response(body=kept[path])
            case _:
                return web.Response(status=405)

    return serve


@pytest.mark.parametrize("size", [1, 1 << 20, 3_000_000])
def test_a_large_file_is_as_large_as_it_is_reckoned(tmp_path: Path, size: int) -> None:
    write_random(tmp_path / "large", size)
    assert (tmp_path / "large").stat().st_size == size


def test_a_system_that_is_away_is_named_with_what_failed(tmp_path: Path) -> None:
    away = Other(name="gone", kind="webdav", url="http://127.0.0.1:1/x")
    found = others.measure(Scenario(pair=False, systems=(away,), compared=1), tmp_path, None)
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("gone: begin: ")
    assert not found.series
    assert not found.memory
