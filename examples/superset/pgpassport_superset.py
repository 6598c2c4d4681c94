"""Superset: each viewer of a dashboard is her own database user, by her own token. See docs/for-users/superset.md."""

from flask import g
from requests import HTTPError
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from superset.db_engine_specs.postgres import PostgresEngineSpec
from superset.sql.parse import SQLGLOT_DIALECTS

SQLGLOT_DIALECTS["pgpassport"] = SQLGLOT_DIALECTS["postgresql"]


class PgpassportDialect(PGDialect_psycopg2):
    """`pgpassport://token@HOST:PORT/DATABASE`, so that Superset takes the specification below for it."""

    supports_statement_cache = True


class SignInNeeded(Exception):
    """The viewer has no token, or the issuer takes her refresh token no more."""


class PgpassportEngineSpec(PostgresEngineSpec):
    """PostgreSQL behind pgpassport. The password is the viewer's own token, and there is no other."""

    engine = "pgpassport"
    engine_name = "pgpassport"
    engine_aliases = set()
    default_driver = "psycopg2"
    sqlalchemy_uri_placeholder = "pgpassport://token@host:port/dbname?sslmode=verify-full"
    supports_oauth2 = True
    oauth2_exception = SignInNeeded

    @classmethod
    def impersonate_user(cls, database, username, user_token, url, engine_kwargs):
        """Never falls back to a stored password, nor to one of the environment."""
        if not user_token:
            raise SignInNeeded("sign in to see data of this database")
        return url.set(password=user_token), engine_kwargs

    @classmethod
    def needs_oauth2(cls, ex):
        """The proxy asks for a fresh token in the HINT of its refusal. Other refusals are shown to the viewer."""
        is_signed_out = isinstance(ex, SignInNeeded) or "Get a fresh token from your identity provider" in str(ex)
        return bool(g) and hasattr(g, "user") and is_signed_out

    @classmethod
    def get_oauth2_fresh_token(cls, config, refresh_token):
        """A refused refresh token leads to a new sign-in, and an issuer that does not answer does not."""
        try:
            return super().get_oauth2_fresh_token(config, refresh_token)
        except HTTPError as error:
            if error.response is not None and error.response.status_code in (400, 401):
                raise SignInNeeded("the sign-in at the issuer has ended") from error
            raise
