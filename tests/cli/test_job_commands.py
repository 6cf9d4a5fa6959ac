"""The commands that let the service do something by itself, run as a user runs them, against a real pair."""

from __future__ import annotations

import io
import json
import re
import tarfile
import urllib.error
import urllib.request
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pyvospace.model.instants import write_instant
from pyvospace.model.vocabulary import CORE, NodeType
from tests.cli.conftest import Shell

TITLE = CORE + "title"


def names(shell: Shell, uri: str) -> list[str]:
    return [one.uri.name for one in shell.space.list(uri)]


def test_mv(shell: Shell) -> None:
    shell.space.ensure_container("vos:a/b", parents=True)
    shell.space.push(b"1", "vos:a/b/file")
    shell.space.ensure_container("vos:c")
    assert shell("mv", "vos:a/b/file", "vos:a/renamed") == 0
    assert (shell.out, shell.err) == ("", "")
    assert shell("mv", "vos:a/renamed", "vos:a/b", "vos:c") == 0
    assert names(shell, "vos:c") == ["b", "renamed"]
    assert names(shell, "vos:a") == []
    shell.space.push(b"2", "vos:file")
    assert shell("mv", "vos:file", "vos:c/renamed") == 4
    assert shell.err.startswith("pyvospace: DuplicateNode vos://")
    assert "rm it first" in shell.err
    assert shell("mv", "vos:c", "vos:c/b") == 2
    assert shell("mv", "vos:", "vos:c") == 2
    assert "vos: is a root or your whole home and cannot be moved" in shell.err
    assert shell("mv", "vos:missing", "vos:x") == 3
    assert shell("mv", "vos:file", "vos:.null") == 2
    assert shell("mv", "vos:file", "vos:nowhere/") == 3
    shell.space.link("vos:c", "vos:link")
    assert shell("mv", "vos:file", "vos:link/") == 0
    assert names(shell, "vos:c") == ["b", "file", "renamed"]


def test_cp_within_the_space(shell: Shell) -> None:
    shell.space.ensure_container("vos:a/b", parents=True)
    shell.space.push(b"content", "vos:a/b/file", content_type="text/x-test")
    assert shell("cp", "vos:a", "vos:copy") == 2
    assert shell("cp", "-r", "vos:a", "vos:copy") == 0, shell.err
    assert (shell.out, shell.err) == ("", "")
    assert shell.lines("cat", "vos:copy/b/file") == ["content"]
    assert shell("cp", "vos:a/b/file", "vos:copy/b/file") == 4
    shell.space.push(b"", "vos:a/b/other")
    assert shell("cp", "vos:a/b/*", "vos:copy") == 0
    assert names(shell, "vos:copy") == ["b", "file", "other"]
    assert shell.lines("cp", "vos:a/b/file", "vos:copy/.auto")[0].startswith("vos://")
    assert shell("cp", "vos:a/b/file", "vos://elsewhere/x") == 2


def test_a_job_in_the_background_is_followed(shell: Shell) -> None:
    shell.space.push(b"content", "vos:file")
    (url,) = shell.lines("cp", "--background", "vos:file", "vos:copy")
    assert shell.lines("jobs", "follow", url) == [f"{url}  COMPLETED"]
    assert shell.space.find("vos:copy") is not None
    job = url.rpartition("/")[2]
    assert re.fullmatch(
        rf"transfers/{job}  COMPLETED  [-\d]+ [:\d]+  cp file", shell.lines("jobs", "list", "-n", "1")[0]
    )
    (told,) = [json.loads(line) for line in shell.lines("jobs", "show", "--json", job)]
    assert told["target"] == str(shell.home.child("file"))
    assert told["phase"] == "COMPLETED"
    shown = shell.lines("jobs", "show", job)
    assert [line.split(":")[0] for line in shown if line.endswith(str(shell.home.child("copy")))] == ["destination"]
    (url,) = shell.lines("cp", "--background", "vos:file", "vos:copy")
    assert shell("jobs", "follow", url) == 4
    assert shell.out == f"{url}  ERROR\n"
    assert shell("jobs", "show", url) == 0
    assert "Duplicate Node" in shell.out
    assert job not in "".join(shell.lines("jobs", "list", "--phase", "error", "--list", "transfers"))
    assert shell("jobs", "abort", url) == 0
    assert shell("jobs", "delete", url, job) == 0
    assert shell("jobs", "show", url, job) == 3
    assert shell("jobs", "list", "--phase", "nonsense") == 2


def test_changes_of_trees(shell: Shell) -> None:
    shell.space.ensure_container("vos:a/b", parents=True)
    shell.space.push(b"", "vos:a/b/file")
    assert shell("tag", "-R", "vos:a", "title=all of them") == 0, shell.err
    for uri in ("vos:a", "vos:a/b", "vos:a/b/file"):
        assert shell.space.get_node(uri).value(TITLE) == "all of them"
    assert shell("tag", "-R", "vos:a", "--delete", "title") == 0
    assert shell.space.get_node("vos:a/b/file").value(TITLE) is None
    assert shell("tag", "vos:a/b", "islocked=true") == 0
    assert shell("rm", "-r", "vos:a") == 6
    assert shell("rm", "--partial", "vos:a") != 0
    assert shell("tag", "vos:a/b", "islocked=false") == 0
    assert shell("rm", "--partial", "vos:a") == 0
    assert shell.space.find("vos:a") is None


def test_find(shell: Shell) -> None:
    shell.space.ensure_container("vos:a/b", parents=True)
    shell.space.push(b"0123456789", "vos:a/b/large.fits")
    shell.space.push(b"", "vos:a/small.fits")
    shell.space.link("vos:a", "vos:link")
    assert shell("tag", "vos:a/small.fits", "title=M 31", "quality=good") == 0
    large, small = (
        str(shell.home.child("a").child("b").child("large.fits")),
        str(shell.home.child("a").child("small.fits")),
    )
    assert sorted(shell.lines("find", "--name", "*.fits")) == [large, small]
    assert shell.lines("find", "vos:a", "--larger", "5", "--smaller", "1K") == [large]
    assert shell.lines("find", "--property", "title=M*", "--property", "quality") == [small]
    assert shell.lines("find", "--type", "link") == [str(shell.home.child("link"))]
    assert len(shell.lines("find", "--type", "folder", "--owner", "alice", "--newer", "1h")) == 2
    assert shell.lines("find", "--older", "2000-01-01") == []
    assert len(shell.lines("find", "--limit", "2")) == 2
    assert json.loads(shell.lines("find", "vos:a/b", "--json")[0])["length"] == 10
    assert shell.lines("find", "vos:a/b", "-l")[0].endswith(large)
    for wrong in (("--type", "door"), ("--larger", "much"), ("--newer", "soon")):
        assert shell("find", *wrong) == 2


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "zip"])
def test_pack_and_unpack(shell: Shell, suffix: str) -> None:
    shell.space.ensure_container("vos:a/b", parents=True)
    shell.space.push(b"content", "vos:a/b/file")
    assert shell("pack", "vos:a", f"a.{suffix}") == 0, shell.err
    if suffix != "zip":
        with tarfile.open(f"a.{suffix}") as archive:
            assert "a/b/file" in archive.getnames()
    assert shell("unpack", f"a.{suffix}", "vos:back") == 0, shell.err
    assert shell.lines("cat", "vos:back/a/b/file") == ["content"]


def test_archives_that_need_words(shell: Shell) -> None:
    shell.space.ensure_container("vos:a")
    shell.space.push(b"1", "vos:one")
    assert shell("pack", "vos:a", "vos:one", "both.zip") == 0, shell.err
    assert zipfile.ZipFile("both.zip").read("one") == b"1"
    assert shell("pack", "vos:a", "vos:missing", "more.zip") == 3
    assert shell("pack", "vos:a", "a.rar") == 2
    assert shell("pack", "vos:a", "a", "--format", "rar") == 2
    assert shell("pack", "vos:missing", "a.tar") == 3
    assert shell("unpack", "missing.tar", "vos:x") == 1
    assert shell.space.find("vos:x") is None
    Path("wrong.tar").write_bytes(b"no archive" * 100)
    assert shell("unpack", "wrong.tar", "vos:x") == 7
    assert shell.space.find("vos:x") is None
    assert shell("unpack", "wrong.tar", "vos:a") == 7
    assert shell.space.find("vos:a") is not None  # it was there before
    assert shell("pack", "vos:a", "-") == 0
    Path("a.tar").write_bytes(shell.raw)
    assert tarfile.is_tarfile("a.tar")


def test_views(shell: Shell) -> None:
    cards = [
        b"SIMPLE  =                    T",
        b"BITPIX  =                    8",
        b"NAXIS   =                    0",
        b"END",
    ]
    Path("image.fits").write_bytes(b"".join(card.ljust(80) for card in cards).ljust(2880))
    assert shell("cp", "--view", "fits", "image.fits", "vos:") == 0, shell.err
    assert shell.space.get_node("vos:image.fits").type is NodeType.STRUCTURED
    assert "BITPIX  =                    8" in shell.lines("cat", "--view", "fits-headers", "vos:image.fits")
    assert shell("cp", "--view", "fits-hdu,hdu=0", "vos:image.fits", "back.fits") == 0, shell.err
    assert Path("back.fits").read_bytes() == Path("image.fits").read_bytes()
    Path("wrong").write_bytes(b"no FITS")
    assert shell("cp", "--view", "fits", "wrong", "vos:") == 7
    assert shell("cat", "--view", "nonsense", "vos:image.fits") == 1
    assert "fits-headers" in shell.err
    assert shell("cat", "--view", "fits-hdu,0", "vos:image.fits") == 2
    assert shell("cp", "--view", "fits", "vos:image.fits", "vos:x") == 2


def test_third_parties_are_asked_by_the_service(shell: Shell) -> None:
    # The operator of this pair lets nobody reach machines near it: what matters here is that the service was asked.
    assert shell("cp", "http://127.0.0.1:1/file.fits", "vos:") != 0
    assert "127.0.0.1" in shell.err
    shell.space.push(b"", "vos:file")
    assert shell("cp", "vos:file", "http://127.0.0.1:1/file.fits") != 0
    assert shell("cp", "http://127.0.0.1:1/", "vos:") == 2
    assert shell("cp", "http://127.0.0.1:1/x", "here") == 2
    assert shell("cp", "http://127.0.0.1:1/x", "vos:file", "vos:") == 2


def test_share(shell: Shell) -> None:
    shell.space.push(b"for friends", "vos:file")
    (url,) = shell.lines("share", "vos:file", "--for", "1h")
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"for friends"
    assert shell("share", "vos:file", "--for", "300w") == 0
    (job,) = [one for one in shell.space.shares() if one.url == shell.out.strip()]
    end = shell.space.job(job.job).quote
    assert end is not None
    assert end - datetime.now(UTC) < timedelta(days=8)  # as long as the service allows
    assert shell.err == f"pyvospace: {shell.home.child('file')} is shared until {write_instant(end)}\n"
    shell.space.abort(job.job)
    assert shell.lines("share", "--list", "vos:file") == [f"{shell.home.child('file')}\t{url}"]
    assert shell("share", "--revoke", "vos:file") == 0
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)
    assert shell("share", "--revoke", "vos:file") == 3
    shell.space.ensure_container("vos:folder")
    shell.space.push(b"inside", "vos:folder/file")
    (told,) = [json.loads(line) for line in shell.lines("share", "--json", "vos:folder")]
    with urllib.request.urlopen(told["url"]) as answer:
        assert zipfile.ZipFile(io.BytesIO(answer.read())).read("folder/file") == b"inside"
    assert shell("share", "vos:file", "--for", "ever") == 2
    assert shell("share", "vos:file", "--format", "zip") == 2
    assert shell("share", "vos:missing") == 3
    assert shell("share") == 2
