"""Settings about who comes, and how he shows it: proxies, passwords, providers, group services."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from pyvospace.config.kinds import (
    Algorithm,
    FarUrl,
    HeaderName,
    Networks,
    Places,
    Positive,
    Seconds,
    Section,
    Words,
    require_tls,
    words_of,
)


class ProxySettings(Section):
    """Proxies in front of the servers."""

    trusted: Networks = Field(
        default=(),
        description="Addresses and networks of the proxies whose word about a client is believed: its address in "
        "X-Forwarded-For. From everybody else these headers are ignored.",
    )
    secret: SecretStr | None = Field(
        None,
        min_length=16,
        description="What such a proxy has to send along in `secret_header`. Without it no proxy can say who a client "
        "is (by certificate), only where he comes from.",
    )
    secret_header: HeaderName = Field(
        "X-Proxy-Secret", description="The header for the secret; the proxy replaces what clients send in it."
    )
    certificate_header: HeaderName | None = Field(
        None,
        description="Header in which it hands on the client's certificate, as base64 of DER (X-Client-Certificate of "
        "OpenCADC's HAProxy) or as PEM ($ssl_client_escaped_cert of nginx).",
    )
    certificate_name_header: HeaderName | None = Field(
        None, description="Header in which it hands on the distinguished name, in place of the whole certificate."
    )
    certificate_verified_header: HeaderName | None = Field(
        None,
        description="Header in which it says whether the certificate was verified: SUCCESS ($ssl_client_verify of "
        "nginx) or 0 (ssl_c_verify of HAProxy). Without it the proxy must send verified ones only.",
    )

    @model_validator(mode="after")
    def _check_certificates(self) -> Self:
        if not (self.certificate_header or self.certificate_name_header):
            return self
        if self.certificate_header and self.certificate_name_header:
            raise ValueError("certificate_header and certificate_name_header: give one of them")
        if not self.trusted or self.secret is None:
            raise ValueError("who a client is, only a proxy in `trusted` that knows the `secret` may say: give both")
        if self.certificate_name_header and not self.certificate_verified_header:
            raise ValueError("certificate_name_header: a name is believed only with certificate_verified_header")
        return self


class LoginSettings(Section):
    """Passwords, tokens, and those who try wrong ones."""

    life: Seconds = Field(12 * 3600.0, description="How long a token of /login is good.")
    plain_http: bool = Field(
        default=False,
        description="Give tokens for passwords without TLS too, to clients on other machines. For tests.",
    )
    tokens: Positive = Field(100, description="API tokens that one user may have.")
    sessions: Positive = Field(
        100, description="Tokens of /login that one user may have; with one more the oldest ends."
    )
    failures: int = Field(
        10,
        ge=2,
        description="Wrong passwords for one name from one address, after which the next ones are answered with 429. "
        "Before that they are answered ever later.",
    )
    failures_of_address: int = Field(
        100, ge=2, description="The same for wrong passwords of all names from one address, and for other credentials."
    )
    forget: Seconds = Field(
        600.0, description="How long it takes until all of them are forgotten, one after the other."
    )
    longest_delay: float = Field(5.0, ge=0, le=60, description="How late a wrong credential is answered at most.")


class ProviderSettings(Section):
    """An OpenID provider whose access tokens are accepted; a table ``[[oidc]]`` for each."""

    issuer: FarUrl = Field(description="Its URL, to the letter as the claim `iss` and its discovery document write it.")
    audience: Words = Field(
        min_length=1, description="Whom its tokens have to be for: one of these names is in the claim `aud`."
    )
    algorithms: Annotated[tuple[Algorithm, ...], NoDecode, BeforeValidator(words_of)] = Field(
        default=("RS256", "ES256"), min_length=1, description="Algorithms of its signatures that are accepted."
    )
    required_scopes: Words = Field(default=(), description="Scopes that a token must have, all of them.")
    required_claims: dict[str, str] = Field(
        default_factory=dict, description="Claims that it must have, with these values (or lists that hold them)."
    )
    read_scope: str | None = Field(
        None, description="Scope without which a token reads nothing. Not given: scopes say nothing about reading."
    )
    write_scope: str | None = Field(
        None, description="Scope without which it changes nothing. Not given: scopes say nothing about changes."
    )
    groups_claim: str | None = Field(
        None, description="Claim that lists the groups of a user; `realm_access.roles` looks inside of a claim."
    )
    group_prefix: str | None = Field(
        None,
        description="What the URIs of these groups begin with: ivo://example.org/gms? makes ivo://example.org/gms?NAME.",
    )
    group_life: Seconds | None = Field(
        None,
        description="How long a user is believed to be in them after his last token came, for jobs that work on "
        "without him. Not given: until that token expires.",
    )
    provision: bool = Field(
        default=False, description="Make a user, with a home, for whoever comes with a good token and is not known yet."
    )
    name_claim: str = Field(
        "preferred_username", description="Claim that proposes the name of such a user; it never links him to another."
    )
    client_id: str | None = Field(
        None, description="With client_secret: asks the provider about tokens that are no JWT."
    )
    client_secret: SecretStr | None = Field(None, description="Secret of that client.")
    login_client: str | None = Field(
        None, description="Public client with which `pyvospace login --oidc` asks for tokens; it is told to everybody."
    )
    login_scopes: Words = Field(default=("openid", "offline_access"), description="Scopes that it asks for.")
    hosts: Places = Field(
        default=(), description="Further hosts of the provider (of its keys, of introspection) if they are internal."
    )
    leeway: float = Field(30.0, ge=0, le=60, description="How far its clock may be off.")
    refetch: Seconds = Field(60.0, description="How often its keys are fetched at most, whatever tokens name.")
    renew: Seconds = Field(300.0, description="Age at which its keys are fetched anew.")
    plain_http: bool = Field(default=False, description="Allow http:// for it. For tests, and on one machine.")

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        if (self.client_id is None) != (self.client_secret is None):
            raise ValueError("client_id and client_secret belong together: give both or none")
        if (self.groups_claim is None) != (self.group_prefix is None):
            raise ValueError("groups_claim and group_prefix belong together: give both or none")
        return require_tls(self, self.issuer)


class GroupServiceSettings(Section):
    """An IVOA group membership service (GMS 1.0) that is asked for groups; a table ``[[gms]]`` for each."""

    url: FarUrl = Field(description="Access URL of its capability `ivo://ivoa.net/std/GMS#search-1.0`.")
    prefixes: Words = Field(
        min_length=1,
        description="What the URIs of its groups begin with: ivo://example.org/gms? The first stands before the names "
        "that it gives; a group with another beginning is not believed.",
    )
    issuers: Words = Field(
        min_length=1,
        description="OpenID providers (as in [[oidc]]) whose tokens are shown to it, to ask in the user's name.",
    )
    cache: Seconds = Field(300.0, description="How long its answer holds, and how often it is asked about one user.")
    plain_http: bool = Field(default=False, description="Allow http:// for it. For tests, and on one machine.")

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        return require_tls(self, self.url)
