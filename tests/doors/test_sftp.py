"""The SFTP door: with OpenSSH and lftp as they are, and with asyncssh for what these do not do."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import asyncssh
import pytest
from asyncssh import FXF_APPEND, FXF_CREAT, FXF_READ, FXF_WRITE, SFTPAttrs

from pyvospace.cli.main import run
from pyvospace.model.callers import Scope
from pyvospace.model.vocabulary import FILE_TIME, QUOTA
from tests.doors.clients import Way, block, connected, openssh, read_http
from tests.doors.conftest import OpenDoor, open_door

BIG = os.urandom(5_000_011)
TIME = 1_600_000_000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a file in two states, of a time long ago."""
    (tmp_path / "half").write_bytes(BIG[:2_000_000])
    (tmp_path / "whole").write_bytes(BIG)
    for name in ("half", "whole"):
        os.utime(tmp_path / name, (TIME, TIME))
    return tmp_path


def missing(door: OpenDoor, path: str) -> bool:
    try:
        read_http(door.pair, path)
    except urllib.error.HTTPError as error:
        return error.code == 404
    return False


def test_openssh(door: OpenDoor, key: Path, files: Path) -> None:
    done = openssh(
        door.place(),
        "mkdir openssh",
        "cd openssh",
        f"put -p {files}/half f",
        f"reput {files}/whole f",
        f"get f {files}/back",
        f"put -p {files}/half 'with blanks, ä'",
        "mkdir full",
        "rename f full/f",
        "-rmdir full",
        "ln -s full/f link",
        f"put {files}/half full/g",
        "rename full/g full/f",
        "chmod 600 full/f",
        "ls -la",
        "df",
        f"get link {files}/through",
        "rm full/f",
        "rm link",
        "rmdir full",
        "ls -1",
        "-get nothing",
        options=("-i", str(key)),
    )
    assert done.returncode == 0, done.stderr
    assert (files / "back").read_bytes() == BIG
    assert (files / "through").read_bytes() == BIG[:2_000_000]
    assert "Sep 13  2020 with blanks, ä" in done.stdout
    assert done.stdout.split("sftp> ls -1\n")[1].splitlines()[0] == "with blanks, ä"
    assert 'rmdir "/home/alice/openssh/full": Failure' in done.stderr
    assert 'File "/home/alice/openssh/nothing" not found' in done.stderr
    assert read_http(door.pair, "openssh/with%20blanks,%20%C3%A4") == BIG[:2_000_000]
    refused = openssh(door.place(), "rm /home/alice/openssh", options=("-i", str(key)))
    assert refused.returncode != 0


def lftp(door: OpenDoor, key: Path, commands: str) -> str:
    """Run lftp, which speaks through OpenSSH."""
    ssh = f"ssh -a -x -i {key} -F /dev/null -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -oLogLevel=ERROR"
    script = f'set sftp:connect-program "{ssh}"; set net:max-retries 1; {commands}; bye'
    place = f"sftp://alice:@127.0.0.1:{door.port}/"
    return subprocess.run(
        ["lftp", "-c", f"open {place}; {script}"], capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.skipif(shutil.which("lftp") is None, reason="left out: there is no lftp (apt-get install lftp)")
def test_mirror_twice_transfers_nothing_the_second_time(door: OpenDoor, key: Path, files: Path) -> None:
    (files / "below").mkdir()
    (files / "below" / "third").write_bytes(b"3")
    os.utime(files / "below" / "third", (TIME, TIME))
    up, down = f"mirror -R -v {files} mirror", f"mirror -v mirror {files}-back"
    assert "Transferring file" in lftp(door, key, up)
    assert "Transferring file" not in lftp(door, key, up)
    assert "Transferring file" in lftp(door, key, down)
    assert "Transferring file" not in lftp(door, key, down)
    assert Path(f"{files}-back/below/third").stat().st_mtime == TIME
    (files / "half").write_bytes(b"changed")
    assert lftp(door, key, up).count("Transferring file") == 1
    assert read_http(door.pair, "mirror/half") == b"changed"


async def test_anywhere_in_a_file(door: OpenDoor, key: Path) -> None:
    async with connected(door.way(), key) as client:
        async with client.open("anywhere", FXF_READ | FXF_WRITE | FXF_CREAT, encoding=None) as file:
            await file.write(b"world", 6)
            await file.write(b"hello ", 0)
            assert await block(file, 20, 0) == b"hello world"
            assert missing(door, "anywhere")
        async with client.open("anywhere", FXF_WRITE | FXF_APPEND, encoding=None) as file:
            await file.write(b"!", 0)
        assert read_http(door.pair, "anywhere") == b"hello world!"
        async with client.open("anywhere", FXF_WRITE, encoding=None):
            pass
        await client.truncate("anywhere", 5)
        assert read_http(door.pair, "anywhere") == b"hello"
        async with client.open("anywhere", "wb") as file:
            await file.write(BIG)
        async with client.open("anywhere", "rb") as file:
            for start, size in ((4_999_990, 100), (0, 10), (4_194_300, 10)):
                assert await block(file, size, start) == BIG[start : start + size]
            async with client.open("anywhere", "wb") as other:
                await other.write(BIG[::-1])
            with suppress(asyncssh.SFTPFailure):  # of one version, or of none
                assert await block(file, 10, 2_000_000) == BIG[2_000_000:2_000_010]


async def test_times_and_modes(door: OpenDoor, key: Path) -> None:
    async with connected(door.way(), key) as client:
        async with client.open("times", "wb", SFTPAttrs(permissions=0o644)) as file:
            await file.setstat(SFTPAttrs(permissions=0o644, atime=TIME, mtime=TIME))
        told = await client.stat("times")
        assert (told.size, told.mtime, told.permissions) == (0, TIME, stat.S_IFREG | 0o600)
        await client.utime("times", (TIME + 1, TIME + 1))
        assert (await client.stat("times")).mtime == TIME + 1
        assert f'{FILE_TIME}">2020-09-13T12:26:41.000Z' in ask(door, f"/nodes{door.pair.home}/times")
        with pytest.raises(asyncssh.SFTPError):
            await client.chown("times", 0, 0)
        set_property(door, "times", "ivo://ivoa.net/vospace/core#ispublic", "true")
        assert (await client.stat("times")).permissions == stat.S_IFREG | 0o604
        await client.chmod("times", 0o600)
        assert (await client.stat("times")).permissions == stat.S_IFREG | 0o600
        await client.chmod("times", 0o666)
        assert (await client.stat("times")).permissions == stat.S_IFREG | 0o600


def ask(door: OpenDoor, path: str) -> str:
    headers = {"Authorization": f"Bearer {door.pair.token}"}
    with urllib.request.urlopen(urllib.request.Request(door.pair.url + path, headers=headers), timeout=30) as answer:
        return str(answer.read().decode())


def set_property(door: OpenDoor, path: str, uri: str, value: str, *, kind: str = "DataNode") -> None:
    body = (
        '<vos:node xmlns:vos="http://www.ivoa.net/xml/VOSpace/v2.0" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="vos:{kind}" uri="{door.pair.uri(path)}">'
        f'<vos:properties><vos:property uri="{uri}">{value}</vos:property></vos:properties></vos:node>'
    )
    headers = {"Authorization": f"Bearer {door.pair.admin_token}", "Content-Type": "text/xml"}
    place = f"{door.pair.url}/nodes{door.pair.home}/{path}"
    urllib.request.urlopen(urllib.request.Request(place, body.encode(), headers), timeout=30).close()


async def test_renames(door: OpenDoor, key: Path) -> None:
    async with connected(door.way(), key) as client:
        for name in ("one", "two"):
            async with client.open(f"renamed-{name}", "wb") as file:
                await file.write(name.encode())
        await client.mkdir("renamed-folder")
        for name in ("renamed-two", "renamed-folder"):
            with pytest.raises(asyncssh.SFTPFailure):
                await client.rename("renamed-one", name)
        await client.posix_rename("renamed-one", "renamed-two")
        assert read_http(door.pair, "renamed-two") == b"one"
        with pytest.raises(asyncssh.SFTPNoSuchFile):
            await client.posix_rename("renamed-one", "renamed-two")
        assert sorted(name for name in await client.listdir() if "renamed" in name) == ["renamed-folder", "renamed-two"]


async def test_many_children_come_in_pages(door: OpenDoor, key: Path) -> None:
    async with connected(door.way(), key) as client:
        await client.mkdir("many")
        for number in range(130):
            await client.symlink("nowhere", f"many/{number:03}")
        assert sorted(await client.listdir("many")) == [".", "..", *(f"{number:03}" for number in range(130))]
        assert await client.readlink("many/000") == "/home/alice/many/nowhere"


async def test_rights_are_the_services(door: OpenDoor, key: Path) -> None:
    async with connected(door.way(), key) as client, client.open("private", "wb") as file:
        await file.write(b"secret")
    await asyncio.to_thread(door.pair.add_user, "bea")
    other, number = await asyncio.to_thread(door.add_key, "bea")
    async with connected(door.way("bea"), other) as client:
        for refused in (client.stat("/home/alice/private"), client.open("/home/alice/private"), client.mkdir("/x")):
            with pytest.raises(asyncssh.SFTPPermissionDenied):
                await refused
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await client.open("/home/alice/new", "wb")
        await client.mkdir("own")
        headers = {"Authorization": f"Bearer {door.pair.admin_token}"}
        gone = urllib.request.Request(
            f"{door.pair.url}/admin/users/bea/keys/{number}", headers=headers, method="DELETE"
        )
        await asyncio.to_thread(lambda: urllib.request.urlopen(gone, timeout=30).close())
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await client.stat("own")
    with pytest.raises(asyncssh.PermissionDenied):
        async with connected(door.way("bea"), other):
            pass
    limited, _ = await asyncio.to_thread(door.add_key, "alice", Scope.parse(["/home/alice"], ["read"]))
    async with connected(door.way(), limited) as client:
        assert (await client.stat("private")).size == 6
        with pytest.raises(asyncssh.SFTPPermissionDenied):
            await client.remove("private")
    assert "Traceback" not in door.pair.log("door")


async def test_who_is_not_let_in(door: OpenDoor, key: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(stranger)
    ways: list[tuple[Way, Path | None]] = [
        (door.way(), stranger),
        (door.way("admin"), key),
        (door.way("alice", "wrong"), None),
        (door.way("admin", door.pair.token), None),
    ]
    for way, shown in ways:
        with pytest.raises(asyncssh.PermissionDenied):
            async with connected(way, shown):
                pass
    async with connected(door.way("alice", door.pair.token)) as client:
        assert await client.realpath(".") == "/home/alice"
        for name in (b"\xff", b"a\0b", b"x" * 300, b"\n"):
            with pytest.raises(asyncssh.SFTPError):
                await client.mkdir(name)
    assert door.pair.token not in door.pair.log("door")


def test_quota_is_told_at_close(door: OpenDoor, key: Path, files: Path) -> None:
    openssh(door.place(), "mkdir small", options=("-i", str(key)))
    set_property(door, "small", QUOTA, "1000", kind="ContainerNode")
    done = openssh(door.place(), f"put {files}/half small/f", options=("-i", str(key)))
    assert done.returncode != 0
    assert "close remote" in done.stderr or "open" in done.stderr
    assert missing(door, "small/f")


async def test_what_was_cut_off_is_not_there(door: OpenDoor, key: Path, tmp_path: Path) -> None:
    with open_door(door.pair, tmp_path) as other:
        for cut in ("connection", "process"):
            way = other.way()
            connection = await asyncssh.connect(
                way.host, way.port, username=way.user, client_keys=[str(key)], known_hosts=None, config=None
            )
            client = await connection.start_sftp_client()
            file = await client.open("half-way", "wb")
            await file.write(BIG)
            if cut == "connection":
                connection.abort()
            else:
                other.stop(kill=True)
            await connection.wait_closed()
            await asyncio.sleep(0.2)
            assert missing(door, "half-way")
        assert list((door.pair.data / "door" / "spool").iterdir()) == []
        other.start()
        async with connected(other.way(), key) as client, client.open("half-way", "wb") as file:
            await file.write(b"whole")
    assert read_http(door.pair, "half-way") == b"whole"


def test_keys_by_the_command_line(
    door: OpenDoor, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOSPACE_URL", door.pair.url)
    monkeypatch.setenv("VOSPACE_TOKEN", door.pair.token)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a laptop", "-f", files / "id"], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", files / "id.pub"], capture_output=True, text=True, check=True)
    assert run(["keys", "add", f"{files}/id.pub"]) == 0
    assert capsys.readouterr().out.strip() in shown.stdout
    assert run(["keys", "add", f"{files}/id.pub"]) != 0
    assert run(["keys", "add", f"{files}/whole"]) != 0
    assert run(["keys", "list"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "a laptop" in line]
    assert openssh(door.place(), "ls", options=("-i", f"{files}/id")).returncode == 0
    assert run(["keys", "remove", line.split("\t")[0]]) == 0
    assert openssh(door.place(), "ls", options=("-i", f"{files}/id")).returncode != 0
