"""What tests of storage servers share."""

from tests.storage.conftest import big

__all__ = ["big"]

collect_ignore = ["sqlite-shelf"]
"""Its tests run where it is installed: see test_howto.py."""
