"""Tokens that may a part of what their user may: nothing outside of their places, nothing beyond their rights."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import pytest

from pyvospace.db import identities
from pyvospace.db.pool import Database
from pyvospace.model.callers import Scope
from pyvospace.model.faults import InvalidArgument
from pyvospace.model.vocabulary import CORE, PUBLIC_SHARE, TAR_VIEW
from tests.server.conftest import STAFF, Space
from tests.server.test_archives import package_document
from tests.server.test_login import make
from tests.support.agents import Agent, Answer, children_of, node_document, transfer_document, uri_of
from tests.support.jobs import FORM, copy, delete_tree, ended, make_job, move, run, set_tree, transfer

PUSH, PULL = "pushToVoSpace", "pullFromVoSpace"
TITLE, PUBLIC = CORE + "title", CORE + "ispublic"


@pytest.fixture
async def box(alice: Agent, folder: str) -> str:
    """Path of a container with a file, and a link that leads out; beside it `folder`/out, and a file there."""
    for path in ("box", "out"):
        await alice.make(f"{folder}/{path}", "ContainerNode")
        await alice.push(f"{folder}/{path}/file", path.encode())
    await alice.make(f"{folder}/box/way", "LinkNode", target=uri_of(f"{folder}/out"))
    await alice.make(f"{folder}/box/leaf", "LinkNode", target=uri_of(f"{folder}/out/file"))
    return f"{folder}/box"


@pytest.fixture
async def limited(space: Space, alice: Agent, box: str) -> Agent:
    """A token of alice for all that may be done in the box."""
    return await make(space, alice, paths=[box], rights=["read", "write", "share"])


def outside_requests(out: str) -> list[tuple[str, str, str | None]]:
    """Give requests about a container, and a file in it, that need a right there."""
    file, new = f"{out}/file", f"{out}/new"
    target = urlencode({"target": uri_of(out)})
    return [
        ("GET", f"/nodes{out}", None),
        ("GET", f"/nodes{file}?limit=0", None),
        ("GET", f"/nodes{new}", None),
        ("PUT", f"/nodes{new}", node_document(new)),
        ("POST", f"/nodes{file}", node_document(file, properties={TITLE: "x"})),
        ("DELETE", f"/nodes{file}", None),
        ("DELETE", f"/nodes{new}", None),
        ("GET", f"/files{file}", None),
        ("PUT", f"/files{file}", "bytes"),
        ("GET", f"/search?{target}", None),
        ("GET", "/properties", None),
    ]


async def fails(agent: Agent, answer: Answer) -> str:
    """Give the fault of a request, or of the job that it has made."""
    if answer.status != 303:
        return answer.fault
    job = answer.location.split("/results/")[0]
    if "/synctrans" in job:
        job = job.replace("/synctrans/", "/transfers/")
    return (await agent.send("GET", f"{job}/error")).text


# --------------------------------------------------------------------------------------------------- outside of it


async def test_nothing_is_told_or_done_outside(limited: Agent, box: str) -> None:
    out = box.replace("/box", "/out")
    for place in (out, f"{box}x", box.rsplit("/", 1)[0], "", "/home/carl"):
        for method, path, body in outside_requests(place):
            answer = await limited.send(method, path, body)
            assert answer.fault == "PermissionDenied", (method, path, answer.text)


@pytest.mark.parametrize("method", [PUSH, PULL])
async def test_no_transfer_outside(limited: Agent, box: str, method: str) -> None:
    out = box.replace("/box", "/out")
    protocol = CORE + ("httpsput" if method == PUSH else "httpsget")
    for path in (f"{out}/file", f"{out}/new", f"{box}/way/file", f"{box}/way/new", f"{box}/leaf"):
        answer = await limited.sync(path, method, protocol)
        assert await fails(limited, answer) in {"PermissionDenied", "LinkFound"}, (path, answer.text)
        asked = urlencode({"TARGET": uri_of(path), "DIRECTION": method, "PROTOCOL": protocol})
        assert await fails(limited, await limited.send("GET", f"/synctrans?{asked}")) in {
            "PermissionDenied",
            "LinkFound",
        }
        job = await make_job(limited, "transfers", transfer_document(path, method, [protocol]))
        await run(limited, job)
        assert (await ended(limited, job)).error in {"PermissionDenied", "LinkFound"}
    share = await limited.sync(f"{out}/file", PULL, PUBLIC_SHARE)
    assert await fails(limited, share) == "PermissionDenied"


async def test_no_link_leads_out(limited: Agent, alice: Agent, box: str) -> None:
    for method, path in (
        ("GET", f"/nodes{box}/way/file"),
        ("GET", f"/files{box}/way/file"),
        ("GET", f"/files{box}/leaf"),
        ("DELETE", f"/nodes{box}/way/file"),
    ):
        assert (await limited.send(method, path)).status in {400, 403, 404}, path
    assert (await limited.put(f"{box}/way/new")).status in {400, 403, 404}
    assert await alice.pull(f"{box.replace('/box', '/out')}/file") == b"out"
    assert children_of(await alice.node(box.replace("/box", "/out"))) == ["file"]


async def test_no_move_and_no_copy_over_the_border(limited: Agent, alice: Agent, box: str) -> None:
    out = box.replace("/box", "/out")
    for operation in (move, copy):
        for source, goal in (
            (f"{box}/file", f"{out}/taken"),
            (f"{out}/file", f"{box}/taken"),
            (f"{box}/file", out),
            (out, box),
            (box, f"{out}/taken"),
            (f"{box}/file", f"{box}/way/taken"),
        ):
            found = await operation(limited, source, goal)
            assert (found.phase, found.error in {"PermissionDenied", "LinkFound"}) == ("ERROR", True), (source, goal)
    assert children_of(await alice.node(box)) == ["file", "leaf", "way"]
    assert children_of(await alice.node(out)) == ["file"]


async def test_the_place_itself_stays(limited: Agent, alice: Agent, box: str) -> None:
    """It may be deleted: that is a change of what the token is for; but it may not leave."""
    assert (await move(limited, box, f"{box}2")).error == "PermissionDenied"
    assert children_of(await alice.node(box)) == ["file", "leaf", "way"]


async def test_trees_and_packages_outside(limited: Agent, alice: Agent, box: str) -> None:
    out = box.replace("/box", "/out")
    assert (await delete_tree(limited, out)).phase in {"ERROR", "ABORTED"}
    assert (await set_tree(limited, out, {TITLE: "x"})).phase in {"ERROR", "ABORTED"}
    assert await alice.pull(f"{out}/file") == b"out"
    run_at = (await limited.send("POST", "/pkg", package_document([f"{box}/file", f"{out}/file"]))).location
    answer = await limited.send("GET", run_at)
    if answer.status == 303:
        packed = await limited.send("GET", answer.location, checked=False)
        assert (b"box" in packed.body, b"out" in packed.body) == (True, False)
    answer = await limited.sync(out, PULL, CORE + "httpsget", view=TAR_VIEW)
    assert await fails(limited, answer) == "PermissionDenied"


# ------------------------------------------------------------------------------------------------------- inside of it


async def test_all_that_it_is_for(limited: Agent, alice: Agent, box: str) -> None:
    await limited.make(f"{box}/in", "ContainerNode")
    await limited.push(f"{box}/in/a", b"bytes")
    assert await limited.pull(f"{box}/in/a") == b"bytes"
    (await limited.post(f"{box}/in/a", properties={TITLE: "A", PUBLIC: "true"})).assert_status(200)
    (await move(limited, f"{box}/in/a", f"{box}/b")).assert_moved(f"{box}/b")
    assert (await copy(limited, f"{box}/b", f"{box}/in/c")).phase == "COMPLETED"
    assert (await set_tree(limited, f"{box}/in", {TITLE: "all"})).phase == "COMPLETED"
    found = await limited.send("GET", f"/search?{urlencode({'target': uri_of(box), 'name': '*'})}")
    assert uri_of(f"{box}/in/c") in found.assert_status(200).text
    (await delete_tree(limited, f"{box}/in")).assert_counts("COMPLETED", 2)
    (await limited.delete(f"{box}/b")).assert_status(204)
    assert children_of(await limited.node(box)) == ["file", "leaf", "way"]


@pytest.mark.parametrize("right", ["read", "write", "share", "admin"])
async def test_each_right_is_good_for_its_own(space: Space, alice: Agent, box: str, right: str) -> None:
    """Rights are properties: who is to share them must be able to write as well."""
    rights = {"share": ["share", "write"]}.get(right, [right])
    limited = await make(space, alice, paths=[box], rights=rights)
    file = f"{box}/file"
    answers = {
        "read": [await limited.get(file, limit=0), await limited.send("GET", f"/files{file}")],
        "write": [
            await limited.post(file, properties={TITLE: "x"}),
            await limited.put(f"{box}/{right}"),
            await limited.delete(f"{box}/{right}"),
        ],
        "share": [await limited.post(file, properties={CORE + "groupread": STAFF})],
        "admin": [await limited.send("POST", "/availability", urlencode({"STATE": "ReadWrite"}), headers=FORM)],
    }
    for needed, found in answers.items():
        allowed = needed in rights and needed != "admin"  # alice is none
        assert all((one.status < 400) is allowed for one in found), (needed, [one.text for one in found])


async def test_an_administrator_by_a_token_without_that_right_is_none(space: Space, admin: Agent, box: str) -> None:
    for rights, status in ((["read", "write", "share"], 403), (["read", "admin"], 200)):
        limited = await make(space, admin, rights=rights)
        assert (await limited.get(box)).status == status, rights


async def test_to_administer_at_a_place_is_not_to_administer_the_space(
    space: Space, alice: Agent, admin: Agent, box: str
) -> None:
    for user in (alice, admin):
        limited = await make(space, user, paths=[box], rights=["admin"])
        answers = [
            await limited.send("POST", "/availability", urlencode({"STATE": "ReadWrite"}), headers=FORM),
            await limited.send("GET", "/audit?limit=1"),
            await limited.send("GET", "/admin/users"),
        ]
        assert [answer.status for answer in answers] == [403] * len(answers)
    everywhere = await make(space, alice, rights=["admin"])
    (await everywhere.send("GET", "/audit?limit=1")).assert_fault(403, "PermissionDenied")


async def test_changes_of_rights_need_the_right_to_share(space: Space, alice: Agent, box: str) -> None:
    limited = await make(space, alice, paths=[box], rights=["read", "write"])
    for properties in ({PUBLIC: "true"}, {CORE + "groupwrite": STAFF}):
        (await limited.post(f"{box}/file", properties=properties)).assert_fault(403, "PermissionDenied")
        assert (await set_tree(limited, box, properties)).phase in {"ERROR", "ABORTED"}
        (await limited.put(f"{box}/new", "ContainerNode", properties=properties)).assert_fault(403, "PermissionDenied")
    answer = await limited.sync(f"{box}/file", PULL, PUBLIC_SHARE)
    assert answer.status == 303  # what is handed on is what the token reads, and no longer than it lives


# ------------------------------------------------------------------------------------------------ jobs and endpoints


async def test_jobs_of_the_same_user_are_not_its_own(space: Space, limited: Agent, alice: Agent, box: str) -> None:
    other = await make(space, alice, paths=[box], rights=["read", "write"])
    document = transfer(f"{box}/file", f"{box}/moved", keep=False)
    hers, its, others = [await make_job(one, "transfers", document) for one in (alice, limited, other)]
    listing = (await limited.send("GET", "/transfers")).assert_status(200).text
    assert [one.rsplit("/", 1)[1] in listing for one in (hers, its, others)] == [False, True, False]
    for job in (hers, others):
        for method, path, body in (
            ("GET", job, None), ("GET", f"{job}/phase", None), ("DELETE", job, None),
            ("POST", f"{job}/phase", "phase=RUN"), ("POST", job, "ACTION=DELETE"), ("GET", f"{job}/results", None),
            ("GET", f"{job}/results/transferDetails", None),
        ):  # fmt: skip
            answer = await limited.send(method, path, body, headers=FORM if body else None)
            assert answer.fault in {"PermissionDenied", "NotFound"}, (method, path, answer.text)
    assert await alice.phase(its) == "PENDING", "its user sees all"


async def test_endpoints_and_jobs_die_with_the_token(
    limited: Agent, alice: Agent, nobody: Agent, box: str, catalogue: Database
) -> None:
    _, get = await limited.negotiate(f"{box}/file", PULL)
    _, put = await limited.negotiate(f"{box}/file", PUSH)
    share = (await limited.sync(f"{box}/file", PULL, PUBLIC_SHARE)).location
    shared = (await limited.send("GET", share)).text.split("<vos:endpoint>")[1].split("<")[0]
    archive = (await limited.sync(box, PULL, CORE + "httpsget", view=TAR_VIEW)).location
    packed = (await limited.send("GET", archive)).text.split("<vos:endpoint>")[1].split("<")[0]
    job = await make_job(limited, "transfers", transfer(f"{box}/file", f"{box}/moved", keep=False))
    (await nobody.send("GET", shared)).assert_status(200)
    (token,) = [
        one for one in await identities.tokens(catalogue, "alice") if one.scope and box in one.scope.pack()["paths"]
    ]
    (await alice.send("DELETE", f"/profile/tokens/{token.id}")).assert_status(204)
    for method, endpoint in (("GET", get), ("PUT", put), ("GET", shared), ("GET", packed)):
        answer = await nobody.send(method, endpoint, b"x" if method == "PUT" else None, checked=False)
        assert answer.status == 403, (endpoint, answer.text)
    await run(alice, job)
    assert (await ended(alice, job)).error == "PermissionDenied"
    assert await alice.pull(f"{box}/file") == b"box"


async def test_it_ends_in_the_middle_of_a_job(limited: Agent, alice: Agent, box: str, catalogue: Database) -> None:
    """A worker asks for each piece of work again who it works for."""
    job = await make_job(limited, "async-delete", urlencode({"target": uri_of(box)}), headers=FORM)
    await catalogue.fetch("update tokens set expires = now() - interval '1 second' where scope -> 'paths' ? $1", box)
    (await limited.get(box)).assert_fault(401, "NotAuthenticated")
    await catalogue.fetch("delete from tokens where scope -> 'paths' ? $1", box)
    await run(alice, job)
    assert (await ended(alice, job)).error == "PermissionDenied"
    await asyncio.sleep(0)
    assert children_of(await alice.node(box)) == ["file", "leaf", "way"]


@pytest.mark.parametrize(
    ("paths", "rights", "packed"),
    [
        ([], ["read"], {"paths": ["/"], "rights": ["read"]}),
        (
            ["/home/a b", "/home/c%2Bd/"],
            ["write", "read"],
            {"paths": ["/home/a%20b", "/home/c%2Bd"], "rights": ["read", "write"]},
        ),
    ],
)
def test_a_scope_is_kept_as_json(paths: list[str], rights: list[str], packed: dict[str, list[str]]) -> None:
    scope = Scope.parse(paths, rights)
    assert Scope.unpack(scope.pack()) == scope
    assert sorted(scope.pack()["rights"]) == packed["rights"]


@pytest.mark.parametrize(("paths", "rights"), [([], []), ([], ["all"]), (["/../x"], ["read"]), (["/a//b"], ["read"]),
                                              (["data"], ["read"]), (["vos:data"], ["read"])])  # fmt: skip
def test_a_scope_that_is_none_is_refused(paths: list[str], rights: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        Scope.parse(paths, rights)


def test_a_place_covers_what_is_below_it_and_nothing_beside_it() -> None:
    scope = Scope.parse(["/home/alice/data"], ["read"])
    assert scope.covers(("home", "alice", "data"))
    assert scope.covers(("home", "alice", "data", "x", "y"))
    assert not scope.covers(("home", "alice"))
    assert not scope.covers(("home", "alice", "data2"))
