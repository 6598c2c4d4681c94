//! A real OpenID provider: npm's `oidc-provider`, which `tests/clients/oidc-provider/install` brings.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use aws_emulator::{Ca, OidcProvider, PolicyTemplate, names};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::World;

/// Programs that a script installs for tests.
pub(crate) fn tools() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".tools")
}

fn program(name: &str) -> PathBuf {
    tools().join("oidc-provider").join(name)
}

/// The provider, over https with an authority of its own.
pub(crate) struct OpenIdProvider {
    pub(crate) url: String,
    /// The same pages over http.
    inner: String,
    pub(crate) ca: PathBuf,
    folder: TempDir,
    /// Closed, it would end the provider at its next word.
    _says: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl OpenIdProvider {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Ca::new().unwrap();
        let ca = authority.write(folder.path()).unwrap();
        let files = authority.server(&["localhost"]).unwrap().write(folder.path(), "issuer").unwrap();
        let mut process = Command::new("node")
            .arg(program("issuer.mjs"))
            .args([&files.cert, &files.key])
            .arg(names::AUDIENCE)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (url, inner) = loop {
            let line = lines.next_line().await.unwrap().expect("the provider says where it is");
            if let Some((url, inner)) = line.split_once(' ').filter(|(url, _)| url.starts_with("https://")) {
                break (url.to_owned(), inner.to_owned());
            }
        };
        Self { url, inner, ca, folder, _says: lines, _process: process }
    }

    /// A proxy whose listener has the keys `listen` and takes this provider's tokens, and an AWS that trusts the provider.
    pub(crate) async fn world(&self, listen: &str) -> World {
        let issuer = format!(
            "[[issuer]]\nname = \"op\"\nurl = \"{}\"\naudience = \"{}\"\nca_file = \"{}\"\nprivate_network = true",
            self.url,
            names::AUDIENCE,
            self.ca.display()
        );
        let mut world = World::builder().listen(listen).issuer(&issuer).start().await;
        world.cloud.values.issuer_url.clone_from(&self.url);
        world.cloud.sts.put_provider(OidcProvider {
            url: self.url.clone(),
            audiences: vec![names::AUDIENCE.to_owned()],
            fetch_url: Some(self.inner.clone()),
        });
        world
            .cloud
            .sts
            .put_role(&world.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission))
            .unwrap();
        world
    }

    /// A person signs in at `page`, in a browser that is a few requests. `code` is that of a device flow.
    pub(crate) async fn sign_in(&self, page: &str, code: &str, name: &str) {
        let browser = Command::new("node")
            .arg(program("browser.mjs"))
            .args([page, code, name])
            .env("NODE_EXTRA_CA_CERTS", &self.ca)
            .output()
            .await
            .unwrap();
        assert!(browser.status.success(), "{}", String::from_utf8_lossy(&browser.stderr));
    }

    /// A folder that lives as long as the provider.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The token of a program that has the right to one.
    pub(crate) async fn token(&self) -> String {
        let script = "const [url, secret] = process.argv.slice(1);
            const body = new URLSearchParams({ grant_type: 'client_credentials', client_id: 'alice',
              client_secret: secret, scope: 'db' });
            const answer = await (await fetch(url, { method: 'POST', body })).json();
            if (!answer.access_token) throw new Error(JSON.stringify(answer));
            console.log(answer.access_token);";
        let output = Command::new("node")
            .args([
                "--input-type=module",
                "--eval",
                script,
                &format!("{}/token", self.inner),
                "only for tests",
            ])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}
