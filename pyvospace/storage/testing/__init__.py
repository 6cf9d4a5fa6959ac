"""For the tests of storage backends, those of other people included. Needs the extra ``pyvospace[test]``."""
