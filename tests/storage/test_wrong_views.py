"""Bytes from elsewhere that are not what their view promises (VOSpace 2.1, section 6.4.2)."""

from __future__ import annotations

import pytest

from pyvospace.model.faults import Fault, InvalidData, TransferFailed
from pyvospace.structures.fits import Fits
from tests.storage.test_third_party import Far, Site, far, site

__all__ = ["far", "site"]
"""Fixtures."""


@pytest.mark.parametrize(("paths", "fault"), [(["good", "empty"], InvalidData), (["good", "404"], TransferFailed)])
async def test_bytes_of_another_format(site: Site, far: tuple[Far, str], paths: list[str], fault: type[Fault]) -> None:
    """Invalid Data, if that alone is what is wrong; nothing is stored."""
    site.catalogue.structured = True
    site.catalogue.import_view = Fits.import_view
    with pytest.raises(fault, match="tried httpget") as caught:
        await site.pull(*(f"{far[1]}/{path}" for path in paths))
    assert type(caught.value) is fault
    assert site.content() is None
