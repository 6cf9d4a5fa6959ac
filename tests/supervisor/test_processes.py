import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pyvospace.supervisor import SupervisorError, processes
from pyvospace.supervisor.processes import Processes, Program, Supervised, reap_adopted

PATIENCE = 20.0


def program(command: str, **options: object) -> Program:
    environment = {"PATH": os.defpath}
    return Program(name="test", command=("/bin/sh", "-c", command), environment=environment, **options)  # type: ignore[arg-type]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.01)


async def test_a_program_that_falls_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    async with Processes() as group:
        running = await group.start(program("exec sleep 100"))
        first = running.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: running.pid not in {None, first})
    assert running.falls == 1
    assert running.pid is None
    assert "test ended (SIGKILL), it is started again" in caplog.text


async def test_pauses_grow(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(processes, "LONGEST_PAUSE", 0.02)
    async with Processes() as group:
        running = await group.start(program("exit 3"))
        await until(lambda: running.falls > 2)
    pauses = [record.args[2] for record in caplog.records if isinstance(record.args, tuple)]
    assert pauses[:3] == [0.01, 0.02, 0.02]
    assert "exit code 3" in caplog.text


async def test_stopping_asks_first(tmp_path: Path) -> None:
    async with Processes() as group:
        await group.start(
            program(f"trap 'echo bye > {tmp_path}/bye; exit' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done")
        )
        await until((tmp_path / "up").exists)
    assert (tmp_path / "bye").read_text() == "bye\n"


@pytest.mark.parametrize("hurry", [False, True])
async def test_what_does_not_stop_is_killed(tmp_path: Path, hurry: bool) -> None:
    stubborn = f"trap '' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done"
    async with Processes() as group:
        running = await group.start(program(stubborn, patience=1000.0 if hurry else 0.05))
        await until((tmp_path / "up").exists)
        if hurry:
            group.hurry()
    assert running.pid is None


async def test_who_waits_for_the_end_is_told_what_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(processes, "ANNOUNCED", 0.05)
    caplog.set_level("INFO", logger=processes.__name__)
    slow = f"trap 'sleep 0.5; exit' TERM; touch {tmp_path}/up; while :; do sleep 0.01; done"
    async with Processes() as group:
        await group.start(program(slow))
        await until((tmp_path / "up").exists)
    assert "lets transfers end, for at most 90 s; Ctrl-C again ends it now" in caplog.text


async def test_what_must_not_be_killed_is_waited_for(tmp_path: Path) -> None:
    slow = f"trap 'sleep 0.3; touch {tmp_path}/done; exit' USR1; touch {tmp_path}/up; while :; do sleep 0.01; done"
    async with Processes() as group:
        await group.start(program(slow, patience=None, stop_with=signal.SIGUSR1))
        await until((tmp_path / "up").exists)
        group.hurry()
    assert (tmp_path / "done").exists()


async def test_output_goes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Processes() as group:
        await group.start(program("echo out; echo err >&2; exec sleep 100", log=log))
        await until(lambda: log.read_text() == "out\nerr\n")
    assert log.stat().st_mode & 0o777 == 0o600


async def test_what_cannot_be_prepared_is_not_started_but_tried_again_later() -> None:
    attempts = 0

    async def prepare() -> None:
        nonlocal attempts
        attempts += 1
        if attempts != 2:
            raise SupervisorError("not yet")

    async with Processes() as group:
        with pytest.raises(SupervisorError, match="not yet"):
            await group.start(program("exec sleep 100", prepare=prepare))
        running = await group.start(program("exit 0", prepare=prepare))
        await until(lambda: attempts > 3)
        assert running.falls > 1


async def test_stopping_while_it_waits_to_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 1000.0)
    async with Processes() as group:
        running = await group.start(program("exit 1"))
        await until(lambda: running.falls == 1)
    assert running.pid is None


async def test_stopping_at_once() -> None:
    running = Supervised(program("exec sleep 1000"))
    await running.stop()
    assert running.pid is None


def test_children_die_with_their_supervisor(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import asyncio, sys
        from pyvospace.supervisor.processes import Processes, Program
        async def main():
            async with Processes() as group:
                running = await group.start(Program(name="x", command=("/bin/sleep", "1000"), environment={}))
                print(running.pid, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        child = psutil.Process(int(supervisor.stdout.readline()))
        supervisor.kill()
    psutil.wait_procs([child], timeout=PATIENCE)
    assert not child.is_running()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything(number: signal.Signals) -> None:
    script = textwrap.dedent("""
        import asyncio
        from pyvospace.supervisor.processes import Processes, until_signalled
        group = Processes()
        async def body():
            async with group:
                print("up", flush=True)
                try:
                    await asyncio.Event().wait()
                finally:
                    print("down", flush=True)
        asyncio.run(until_signalled(body(), group))
        print("end", flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.read() == "down\nend\n"
    assert process.returncode == 0


async def test_adopted_zombies_are_buried() -> None:
    orphan = subprocess.Popen(["/bin/true"])  # nobody will wait for it
    own = asyncio.create_task(reap_adopted(0.02))
    await until(lambda: not psutil.pid_exists(orphan.pid))
    own.cancel()
    orphan.wait()
