from pathlib import Path

import pytest

from pyvospace.config.settings import ServerSettings
from pyvospace.service.serving import tls_context


def test_a_wrong_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.pem").write_text("no certificate")
    for name, words in (("missing.pem", "No such file or directory"), ("wrong.pem", "PEM")):
        settings = ServerSettings(tls_cert=tmp_path / name, tls_key=tmp_path / "key.pem")
        with pytest.raises(ValueError, match=f"tls_cert {tmp_path}/{name}, tls_key .*: .*{words}"):
            tls_context(settings)
