"""Settings of servers of other protocols than HTTP."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pyvospace.config.kinds import Port, Positive, Seconds, Section, UserPath


class SftpSettings(Section):
    """The SFTP door to the space (`pyvospace sftp`)."""

    host: str = Field("127.0.0.1", description="Address to listen at; 0.0.0.0 for every one.")
    port: Port = Field(8023, description="Port to listen at.")
    data: UserPath = Field(
        Path("~/.local/share/pyvospace/sftp"),
        description="Directory of the host key, and of files that are being written until they are complete.",
    )
    host_key: UserPath | None = Field(
        None, description="Private key of the server (OpenSSH, PEM). Not given: one that is made and kept in `data`."
    )
    passwords: bool = Field(default=False, description="Take API tokens as passwords, beside keys.")
    connections: Positive = Field(200, description="Connections at one time.")
    connections_of_user: Positive = Field(20, description="The same of one user.")
    open_files: Positive = Field(32, description="Files that one session may have open.")
    idle_timeout: Seconds = Field(600.0, description="How long a session may ask for nothing.")
    spool_bytes: Positive = Field(
        64 * 1024**3, description="Bytes of files that are being written, of all sessions together."
    )
    ca_file: UserPath | None = Field(
        None, description="Certificates (PEM) to trust at metadata.public_url, besides the system's."
    )
