"""Settings of what watches the service."""

from __future__ import annotations

from pydantic import Field

from pyvospace.config.kinds import Port, Section


class MetricsSettings(Section):
    """Where Prometheus asks: listeners of their own, for the machines of the operator only."""

    host: str = Field("127.0.0.1", description="Address at which it may ask; there is no password.")
    metadata: Port | None = Field(
        None,
        description="Port of the metadata server's /metrics. Of several workers each has its own: this one, and those "
        "that follow. Not given: none.",
    )
    storage: Port | None = Field(None, description="The same of the storage server.")
    worker: Port | None = Field(None, description="The same of `pyvospace worker`.")
