//! The console through real clients: who is let in, what each right permits, and what is shown.

mod actions;
mod clusters;
mod drivers;
mod mysql;
mod rights;
mod show;
mod slow_readers;

use serde_json::json;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::world::{PsqlOutput, World, WorldBuilder};

/// `dba` may change, `oncall` may look.
const RULES: &str =
    "allow = [{ claim = \"groups\", any = [\"dba\"] }]\nview = [{ claim = \"groups\", any = [\"oncall\"] }]";

/// A world with a console, whose cluster serves the database `app` only.
fn with_console() -> WorldBuilder {
    World::builder().admin(RULES).cluster("databases = [\"app\", \"postgres\"]")
}

impl World {
    /// A token of `sub` in these groups.
    fn member(&self, sub: &str, groups: &[&str]) -> String {
        self.mint(self.claims(sub).set("groups", json!(groups)))
    }

    /// The console, through tokio-postgres.
    async fn console(&self, group: &str) -> Client {
        let token = self.member("olivia", &[group]);
        let client = self.connect_with("olivia", &token, |config| {
            config.dbname("pgpassport");
        });
        client.await.unwrap_or_else(|error| panic!("{group}: {error:?}"))
    }

    /// psql on the console.
    async fn console_psql(&self, group: &str, args: &[&str]) -> PsqlOutput {
        let token = self.member("olivia", &[group]);
        self.psql("user=olivia dbname=pgpassport", &token, args).await
    }
}

/// The answer to a simple query: its rows, each with all columns by name.
async fn rows(client: &Client, command: &str) -> Vec<Vec<(String, Option<String>)>> {
    let messages = client.simple_query(command).await.unwrap_or_else(|error| panic!("{command}: {error:?}"));
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let cell = |(at, column): (usize, &tokio_postgres::SimpleColumn)| {
                (column.name().to_owned(), row.get(at).map(str::to_owned))
            };
            Some(row.columns().iter().enumerate().map(cell).collect())
        }
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

/// The value of a column.
fn cell<'r>(row: &'r [(String, Option<String>)], name: &str) -> &'r str {
    let found = row.iter().find(|(column, _)| column == name);
    found.unwrap_or_else(|| panic!("no {name} in {row:?}")).1.as_deref().unwrap_or("")
}

/// SQLSTATE of a command that is not executed.
async fn failure(client: &Client, command: &str) -> String {
    let error = client.simple_query(command).await.err().unwrap_or_else(|| panic!("{command} was executed"));
    error.code().unwrap_or_else(|| panic!("{command}: {error:?}")).code().to_owned()
}
