"""One upload in a process that dies on the way: at the crash point that PYVOSPACE_CRASH names, or by a signal.

Usage: python -m pyvospace.storage.testing.dying module:Class PATH OPTIONS-AS-JSON SIZE WHOLE [AT]

With WHOLE = 0 the body stops in its middle; "stuck" is printed then. With AT it dies at the AT-th time that the upload
waits for something.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pyvospace.storage.testing.doubles import Interrupted
from pyvospace.storage.testing.rig import configured, rigged

PATTERN = bytes(range(251))


def content(size: int) -> bytes:
    """Give the bytes that are uploaded."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


async def main(arguments: Sequence[str]) -> None:
    """Upload and die."""
    name, path, options, size, whole, *at = arguments
    data = content(int(size))
    rest = data[len(data) // 2 :] if int(whole) else None
    backend = configured(name, Path(path), json.loads(options))
    async with rigged(Interrupted(backend, int(at[0]), kill=True) if at else backend) as rig:
        body = rig.body([data[: len(data) // 2], rest])
        upload = asyncio.create_task(rig.upload(body))
        stuck = asyncio.create_task(body.stuck.wait())
        await asyncio.wait([upload, stuck], return_when=asyncio.FIRST_COMPLETED)
        sys.stdout.write("done\n" if upload.done() else "stuck\n")
        sys.stdout.flush()
        await upload


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
