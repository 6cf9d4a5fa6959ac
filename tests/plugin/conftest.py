"""What tests of storage servers share."""

from tests.storage.conftest import big

__all__ = ["big"]
