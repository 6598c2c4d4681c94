"""Superset's own models and caches with the specification of examples/superset; only its web pages are left out.

VIEWERS is a JSON object: name of a viewer -> [access token, seconds until Superset takes it for expired, refresh token].
For each viewer one line: her name, and what a query of hers shows.
"""

import json
import os
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlparse

from superset.app import create_app

app = create_app()
with app.app_context():
    from flask_appbuilder import Model
    from superset import db, security_manager
    from superset.db_engine_specs import get_engine_spec
    from superset.exceptions import OAuth2RedirectError
    from superset.models.core import Database, DatabaseUserOAuth2Tokens
    from superset.utils.core import override_user

    Model.metadata.create_all(db.engine)
    assert get_engine_spec("pgpassport", "psycopg2").__name__ == "PgpassportEngineSpec"
    assert get_engine_spec("postgresql", "psycopg2").__name__ == "PostgresEngineSpec"
    role = security_manager.add_role("Viewer")
    database = Database(database_name="orders", sqlalchemy_uri=os.environ["URI"], impersonate_user=True)
    db.session.add(database)
    db.session.commit()

    for name, given in json.loads(os.environ["VIEWERS"]).items():
        user = security_manager.add_user(name, name, name, f"{name}@example.com", role, password="x")
        if given:
            token, seconds, refresh = given
            db.session.add(
                DatabaseUserOAuth2Tokens(
                    user_id=user.id,
                    database_id=database.id,
                    access_token=token,
                    access_token_expiration=datetime.now() + timedelta(seconds=seconds),
                    refresh_token=refresh,
                )
            )
            db.session.commit()
        with app.test_request_context(), override_user(user):
            try:
                shown = database.get_df("select current_user as who, 1 as one")["who"][0]
            except OAuth2RedirectError as redirect:
                page = redirect.error.extra["url"]
                query = parse_qs(urlparse(page).query)
                shown = f"is sent to {page.split('?')[0]} with {query['client_id'][0]} {query['code_challenge_method'][0]}"
            except Exception as error:
                lines = str(error).splitlines()
                shown = "reads " + next((line for line in lines if "DETAIL" in line), lines[0])
        print("VIEWER", name, shown)
