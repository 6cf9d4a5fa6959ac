"""Settings of uploads that come in more than one request."""

from __future__ import annotations

from pydantic import Field

from pyvospace.config.kinds import Positive, Seconds, Section


class PartialSettings(Section):
    """Uploads that come in more than one request (TUS, put transactions of OpenCADC)."""

    life: Seconds = Field(86_400.0, description="How long an upload that is not complete is kept after its last byte.")
    segment: Positive = Field(
        1024**3,
        description="Bytes after which what has come is safe, however long a request of TUS goes on: what a crash of "
        "the server may cost at most.",
    )
    user_bytes: Positive = Field(4 * 1024**4, description="Bytes that one user may have in uploads not complete.")
    user_uploads: Positive = Field(10_000, description="Number of uploads that he may have begun and not completed.")
