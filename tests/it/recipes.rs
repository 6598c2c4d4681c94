//! The recipes of docs/for-users for frameworks that a distribution does not have. `tests/clients/recipes/run` installs them
//! and runs these tests.

use std::fs;
use std::path::{Path, PathBuf};

use aws_emulator::{Issuer, percent_encode};
use tempfile::TempDir;
use tokio::process::Command;

use crate::agent::LocalAgent;
use crate::docs::blocks;
use crate::sign_in::{browse, redirect_of};
use crate::world::World;
use crate::world::drivers::printed;

/// A program of the virtual environment `name`.
fn program(name: &str, program: &str) -> Command {
    let path = root().join(format!(".tools/recipes/{name}/bin/{program}"));
    let mut command = Command::new(path);
    command.env_remove("PGPASSWORD").env("HOME", "/nonexistent");
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The first block of a page of docs/for-users in `language`.
fn recipe(page: &str, language: &str) -> String {
    let page = fs::read_to_string(root().join("docs/for-users").join(page)).unwrap();
    blocks(&page, language).remove(0)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs dbt: tests/clients/recipes/run"]
async fn dbt_runs_a_query_through_the_agent() {
    let world = World::start().await;
    let agent = LocalAgent::start(&world, &world.token("alice")).await;
    let folder = TempDir::new().unwrap();
    let profiles = recipe("dbt.md", "yaml")
        .replace("15432", &agent.addr.port().to_string())
        .replace("dbname: orders", "dbname: app");
    fs::write(folder.path().join("profiles.yml"), profiles).unwrap();
    let project = "name: orders\nversion: '1.0'\nprofile: orders\n";
    fs::write(folder.path().join("dbt_project.yml"), project).unwrap();
    for (args, told) in [
        (&["debug"][..], "Connection test: [OK connection ok]"),
        (&["show", "--inline", "select current_user as who"], "| alice |"),
    ] {
        let mut dbt = program("dbt", "dbt");
        dbt.arg("--no-use-colors")
            .args(args)
            .args(["--profiles-dir", "."])
            .env("PGPASSPORT_LOCAL_PASSWORD", &agent.password)
            .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
            .env("NO_COLOR", "1")
            .current_dir(folder.path());
        let output = dbt.kill_on_drop(true).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(told), "{args:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Airflow: tests/clients/recipes/run"]
async fn airflows_hook_reads_the_token_for_each_connection() {
    let world = World::start().await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    let hook =
        recipe("airflow.md", "python").replace("/var/run/secrets/pgpassport/token", token.to_str().unwrap());
    fs::write(folder.path().join("hook.py"), hook).unwrap();
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    let extra = recipe("airflow.md", "json").replace("/etc/ssl/acme-ca.pem", ca.to_str().unwrap());
    let extra: serde_json::Value = serde_json::from_str(&extra).unwrap();
    let connection = serde_json::json!({
        "conn_type": "postgres", "host": "localhost", "port": world.port, "schema": "app", "login": "token", "extra": extra,
    });
    fs::write(&token, world.token("alice") + "\n").unwrap();
    let script = "import os, pathlib\nfrom hook import TokenFileHook\n\
                  who = lambda hook: hook.get_first('select current_user')[0]\n\
                  hook = TokenFileHook('orders')\none = who(hook)\n\
                  pathlib.Path('token').write_text(os.environ['NEXT'])\n\
                  print('RESULT', one, who(hook), who(TokenFileHook('orders')))";
    let mut python = program("airflow", "python");
    python
        .args(["-c", script])
        .env("AIRFLOW_HOME", folder.path())
        .env("AIRFLOW_CONN_ORDERS", connection.to_string())
        .env("NEXT", world.token("bob"))
        .current_dir(folder.path());
    let said = printed(&mut python).await;
    assert!(said.ends_with("RESULT alice bob bob"), "{said}");
}

/// Address of Superset to which the issuer sends people back.
const RETURN: &str = "http://localhost/api/v1/database/oauth2/";

/// Signs `user` in for Superset, by the code verifier of RFC 7636, appendix B.
async fn refresh_token(issuer: &Issuer, user: &str) -> String {
    let page = format!(
        "{}/authorize?response_type=code&client_id=superset&redirect_uri={}&scope=openid+offline_access&state=s\
         &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256",
        issuer.url(),
        percent_encode(RETURN)
    );
    let redirect = redirect_of(&page, user).await;
    let code = redirect.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let form = format!(
        "grant_type=authorization_code&client_id=superset&client_secret=x&redirect_uri={}&code={code}\
         &code_verifier=dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        percent_encode(RETURN)
    );
    let answer = browse("POST", &format!("{}/token", issuer.url()), None, &form).await;
    let answer: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    answer["refresh_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Viewers of one Superset database, each with what her token stands for.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Superset: tests/clients/recipes/run"]
async fn each_viewer_of_superset_is_her_own_database_user() {
    let world = World::start().await;
    let issuer = &world.cloud.issuer;
    let folder = TempDir::new().unwrap();
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    let config = format!(
        "SECRET_KEY = 'only for tests, and long enough for them'\n\
         SQLALCHEMY_DATABASE_URI = 'sqlite:///{0}/superset.db'\n\
         DATABASE_OAUTH2_REDIRECT_URI = '{RETURN}'\n\
         DATABASE_OAUTH2_CLIENTS = {{'pgpassport': {{'id': 'superset', 'secret': 'x', 'scope': 'openid offline_access',\n\
         'authorization_request_uri': '{1}/authorize', 'token_request_uri': '{1}/token'}}}}\n",
        folder.path().display(),
        issuer.url()
    );
    fs::write(folder.path().join("superset_config.py"), config).unwrap();
    issuer.register_web_client("superset", RETURN, "x");
    let (of_carol, of_dora) = (refresh_token(issuer, "alice").await, refresh_token(issuer, "bob").await);
    issuer.revoke_user("bob");
    let now = world.cloud.clock.unix();
    let old = world
        .mint(world.claims("alice").set("iat", now - 1_500).set("nbf", now - 1_500).set("exp", now - 600));
    let viewers = serde_json::json!({
        "anna": [world.token("alice"), 900, null],
        "berta": [world.token("bob"), 900, null],
        "carol": ["expired", -1, of_carol],
        "dora": ["expired", -1, of_dora],
        "emma": null,
        "frieda": [old, 900, null],
        "gerda": [world.token("nobody"), 900, null],
    });
    let mut python = program("superset", "python");
    python
        .arg(root().join("tests/clients/recipes/superset_viewers.py"))
        .env("PYTHONPATH", folder.path())
        .env("SUPERSET_HOME", folder.path())
        .env("PGPASSFILE", "/nonexistent")
        .env(
            "URI",
            format!(
                "pgpassport://token@localhost:{}/app?sslmode=verify-full&sslrootcert={}",
                world.port,
                ca.display()
            ),
        )
        .env("VIEWERS", viewers.to_string())
        .current_dir(folder.path());
    let said = printed(&mut python).await;
    let lines: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("VIEWER ")).collect();
    let sign_in = format!("is sent to {}/authorize with superset S256", issuer.url());
    let expected = [
        "anna alice".to_owned(),
        "berta bob".to_owned(),
        "carol alice".to_owned(),
        format!("dora {sign_in}"),
        format!("emma {sign_in}"),
        format!("frieda {sign_in}"),
    ];
    assert_eq!(lines[..6], expected, "{said}");
    assert!(lines[6].starts_with("gerda reads ") && lines[6].contains("Stage "), "{said}");
}
