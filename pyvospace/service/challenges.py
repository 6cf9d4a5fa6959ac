"""What tells a client how it can log in: challenges (RFC 9110, 11.6.1; RFC 6750, 3; SSO 2.1), security methods."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pyvospace.model import vocabulary
from pyvospace.service import oidc

if TYPE_CHECKING:
    from pyvospace.config import Settings

LOGIN: Final = "login"
"""The path of the resource that gives tokens for passwords."""
_ERROR: Final = ', error="invalid_token", error_description="the token is wrong, expired or revoked"'


def challenges(settings: Settings, *, invalid: bool = False) -> list[str]:
    """Give a challenge for each way to log in.

    Parameters
    ----------
    invalid
        A credential was sent and refused.
    """
    realm = settings.authority
    found = [f'Bearer realm="{realm}"{_ERROR if invalid else ""}']
    if url := login_url(settings):
        found += [f'ivoa_bearer standard_id="{method}", access_url="{url}"'
                  for method in (vocabulary.SSO_PASSWORD, vocabulary.SSO_BASIC)]  # fmt: skip
    found += oidc.challenges(settings)
    if accepts_certificates(settings):
        found.append("ivoa_x509")
    return [*found, f'Basic realm="{realm}"']


def security_methods(settings: Settings) -> tuple[str, ...]:
    """Give the methods of the interfaces at which one can log in."""
    certificate = (vocabulary.SSO_CERTIFICATE,) if accepts_certificates(settings) else ()
    return (vocabulary.SSO_TOKEN, vocabulary.SSO_BASIC, *certificate)


def accepts_certificates(settings: Settings) -> bool:
    """Say whether client certificates can come, by TLS or from a proxy."""
    proxies = settings.proxies
    return bool(settings.metadata.tls_client_ca or proxies.certificate_header or proxies.certificate_name_header)


def login_url(settings: Settings) -> str | None:
    """Give the URL at which a token is given for a password; None: passwords would travel for everybody to read."""
    metadata = settings.metadata
    if not (
        metadata.public_url.startswith("https:")
        or settings.logins.plain_http
        or (_is_here(metadata.host) and _is_here(urlsplit(metadata.public_url).hostname or ""))
    ):
        return None
    return f"{metadata.public_url}/{LOGIN}"


def _is_here(host: str) -> bool:
    """Say whether nothing sent to a host leaves the machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
