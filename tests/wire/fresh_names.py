"""A program: prints by how many bytes it grew while it read documents full of names that nobody used before.

With the argument "lxml" they are read by lxml, which keeps them.
"""

import gc
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from pyvospace.model.faults import Fault
from pyvospace.wire.nodes import parse_node

SPACE = "http://www.ivoa.net/xml/VOSpace/v2.0"
SPACES = f'xmlns="{SPACE}" xmlns:vos="{SPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
NAMES = 4000
WARM = 3
ROUNDS = 20


def memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def documents(turn: int) -> Iterator[str]:
    fresh = [f"{'n' * 80}{turn}x{number}" for number in range(NAMES)]
    properties = [f'<property xmlns:{one}="urn:{one}" {one}:a="b" uri="{one}"/>' for one in fresh[:900]]
    children = [f"<{one} {one}='a'/>" for one in fresh]
    for inner in (
        f"<properties>{''.join(properties)}</properties>",
        f"<nodes>{''.join(children)}</nodes>",
        "".join(f"<{one}/>" for one in fresh),
        "".join(f"<?{one} a?>" for one in fresh),
        "".join(f"&{one};" for one in fresh),
    ):
        yield f'<vos:node {SPACES} xsi:type="vos:ContainerNode" uri="vos://x/a">{inner}</vos:node>'


def read(document: str) -> None:
    try:
        if "lxml" in sys.argv:
            etree.fromstring(document)
        else:
            parse_node(document.encode())
    except (Fault, etree.XMLSyntaxError):
        pass


def grown() -> int:
    before = 0
    for turn in range(WARM + ROUNDS):
        if turn == WARM:
            before = memory()
        for one in documents(turn):
            read(one)
    return memory() - before


if __name__ == "__main__":
    sys.stdout.write(str(grown()))
