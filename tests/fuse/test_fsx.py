"""Random operations on a mount, a short form: `python -m tests.fuse.fsx --minutes 10` is the long one."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.fuse.fsx import Twins, run
from tests.support.mounts import Mount

SEED = int(os.environ.get("PYVOSPACE_FSX_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 30)
OPERATIONS = int(os.environ.get("PYVOSPACE_FSX_OPERATIONS", "500"))


def test_random_operations_give_what_local_files_give(mount: Mount, here: Path, tmp_path: Path) -> None:
    twins = Twins(here, tmp_path, random.Random(SEED), mount.again)
    try:
        run(twins, operations=OPERATIONS, remounts=2)
    except AssertionError as error:
        error.add_note(f"PYVOSPACE_FSX_SEED={SEED} repeats it")
        raise
