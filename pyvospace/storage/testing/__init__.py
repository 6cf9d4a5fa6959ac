"""For the tests of storage backends, those of other people included. Needs the extra ``pyvospace[test]``."""

import pytest

# So that a failed assertion of the contract shows the values in the author's test run.
pytest.register_assert_rewrite(f"{__name__}.contract")
