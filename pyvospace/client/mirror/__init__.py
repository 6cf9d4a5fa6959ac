"""Folders that are made to hold what others hold: this machine and a space, both ways, and two places of spaces."""

from pyvospace.client.mirror.carriers import carrier_for
from pyvospace.client.mirror.events import Act, Event, Observer, Summary
from pyvospace.client.mirror.items import Kind
from pyvospace.client.mirror.mirror import Mirror, Options
from pyvospace.client.mirror.patterns import Patterns, Rule
from pyvospace.client.mirror.sides import LocalSide, Side, SpaceSide

__all__ = [
    "Act",
    "Event",
    "Kind",
    "LocalSide",
    "Mirror",
    "Observer",
    "Options",
    "Patterns",
    "Rule",
    "Side",
    "SpaceSide",
    "Summary",
    "carrier_for",
]
