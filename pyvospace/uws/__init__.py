"""Jobs (UWS 1.1): the only writer of phases."""
