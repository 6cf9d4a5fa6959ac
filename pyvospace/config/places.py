"""Settings of where bytes are."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field

from pyvospace.config.kinds import Positive, Seconds, Section, network_of


def _networks(sites: dict[str, str]) -> dict[str, str]:
    for text in sites:
        if network_of(text) is None:
            raise ValueError(f"{text!r} is no address and no network (10.1.0.0/16, without bits of a host)")
    return sites


@lru_cache(maxsize=10_000)
def _site(sites: tuple[tuple[str, str], ...], address: str) -> str:
    client = ip_address(address)
    found = [(network.prefixlen, name) for text, name in sites if client in (network := ip_network(text))]
    return max(found)[1] if found else ""


class PlacementSettings(Section):
    """Where bytes go, and how many copies of them there are."""

    sites: Annotated[dict[str, str], AfterValidator(_networks)] = Field(
        default_factory=dict,
        description="Where clients are: the name of a site (as in `storage.site`) for each network, such as "
        '`{ "10.1.0.0/16" = "garching" }`. Servers of his site are offered to a client first; of several networks '
        "the narrowest counts.",
    )
    lost_after: Seconds = Field(
        3600.0, description="How long a storage may be silent before the copies there count as lost and are made anew."
    )
    interval: Seconds = Field(
        600.0, description="How often all bytes are looked at for copies that are missing, spare or due to move."
    )
    repairs: Positive = Field(2, description="Copies that one storage server fetches at the same time.")
    repair_rate: float = Field(
        0.0, ge=0, description="Most bytes a second that one storage server fetches for them; 0: as fast as they come."
    )
    recall_days: float = Field(
        7.0, ge=0, description="Days for which bytes that were recalled from a cold storage stay on the others too."
    )

    def site_of(self, address: str) -> str:
        """Give the site of a client; empty: none that is known."""
        if not self.sites or not address:
            return ""
        try:
            return _site(tuple(self.sites.items()), address)
        except ValueError:  # a socket of the file system has none
            return ""


class ScrubSettings(Section):
    """Reading all bytes again, to find those that have changed on the disk."""

    rate: float = Field(
        10.0 * 1024**2,
        ge=0,
        description="Bytes a second that each process of a storage server reads for it; 0: none, but for what could "
        "not be read when it was wanted.",
    )
    interval: Seconds = Field(
        30 * 86400.0, description="How often everything is read, if the rate allows it; counted from the beginning."
    )
