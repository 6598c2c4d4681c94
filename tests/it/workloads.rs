//! The recipes of docs/workloads.md, run as they stand there, with a token file that changes between two connections.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::docs::blocks;
use crate::world::World;
use crate::world::drivers::{node, pgjdbc, printed, python};

/// A folder with recipes and a token file, which holds the token of alice.
struct Recipes {
    folder: TempDir,
    page: String,
    world: World,
    /// The next content of the token file.
    next: String,
}

impl Recipes {
    async fn new() -> Self {
        let world = World::start().await;
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/workloads.md");
        let (folder, page) = (TempDir::new().unwrap(), fs::read_to_string(page).unwrap());
        fs::write(folder.path().join("token"), world.token("alice") + "\n").unwrap();
        let next = world.token("bob");
        Self { folder, page, world, next }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Text of the page with this world's names.
    fn here(&self, text: &str) -> String {
        let ca = self.world.listener_ca().write(&self.world.folder()).unwrap();
        text.replace("db.acme.com", "localhost")
            .replace("5432", &self.world.port.to_string())
            .replace("orders", "app")
            .replace("/etc/ssl/acme-ca.pem", ca.to_str().unwrap())
            .replace("/var/run/secrets/pgpassport/token", self.path("token").to_str().unwrap())
    }

    /// Writes the recipe whose first line names `file`.
    fn write(&self, language: &str, file: &str) {
        let blocks = blocks(&self.page, language);
        let recipe = blocks.iter().find(|block| block.lines().next().unwrap().ends_with(&format!(" {file}")));
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, self.here(recipe.unwrap_or_else(|| panic!("no recipe {file}")))).unwrap();
    }
}

async fn run_python(recipes: &Recipes, program: &str) -> Option<String> {
    let rotate = "import os, pathlib\ndef rotate(): pathlib.Path('token').write_text(os.environ['NEXT'])\n";
    let mut python = python()?;
    python
        .arg("-c")
        .arg(format!("{rotate}{program}"))
        .env("NEXT", &recipes.next)
        .current_dir(recipes.folder.path());
    Some(printed(&mut python).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn python_pools_read_the_token_for_each_connection() {
    let recipes = Recipes::new().await;
    for (file, program) in [
        (
            "pool.py",
            "from pool import pool\npool.wait()\npool.resize(4, 8)\n\
             held = [pool.getconn() for _ in range(4)]\nrotate()\nheld.append(pool.getconn())\n\
             print({c.execute('select current_user').fetchone()[0] for c in held[:4]}, end=' ')\n\
             print(held[4].execute('select current_user').fetchone()[0])\n\
             for c in held: pool.putconn(c)\npool.close()",
        ),
        (
            "engine.py",
            "from engine import engine\nfrom sqlalchemy import text\nq = text('select current_user')\n\
             one = engine.connect()\nrotate()\ntwo = engine.connect()\n\
             print({one.execute(q).scalar()}, two.execute(q).scalar())",
        ),
    ] {
        fs::write(recipes.path("token"), recipes.world.token("alice") + "\n").unwrap();
        recipes.write("python", file);
        let Some(said) = run_python(&recipes, program).await else { return };
        assert_eq!(said, "{'alice'} bob", "{file}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn django_reads_the_token_for_each_connection() {
    let recipes = Recipes::new().await;
    recipes.write("python", "acme_postgres/base.py");
    recipes.write("python", "settings.py");
    let program = "import django, os\nos.environ['DJANGO_SETTINGS_MODULE'] = 'settings'\ndjango.setup()\n\
                   from django.db import connection\n\
                   def who():\n  with connection.cursor() as c:\n    c.execute('select current_user')\n    \
                   return c.fetchone()[0]\n\
                   one = who()\nconnection.close()\nrotate()\nprint(one, who())";
    let Some(said) = run_python(&recipes, program).await else { return };
    assert_eq!(said, "alice bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_pool_reads_the_token_for_each_connection() {
    let recipes = Recipes::new().await;
    recipes.write("js", "pool.mjs");
    let program = "import { writeFileSync } from 'node:fs'\nimport { pool } from './pool.mjs'\n\
                   const who = async c => (await c.query('select current_user as u')).rows[0].u\n\
                   const one = await pool.connect()\nwriteFileSync('token', process.env.NEXT)\n\
                   const two = await pool.connect()\nconsole.log(await who(one), await who(two))\n\
                   one.release(); two.release(); await pool.end()\n";
    fs::write(recipes.path("main.mjs"), program).unwrap();
    let Some(mut node) = node(recipes.folder.path()) else { return };
    node.arg("main.mjs").env("NEXT", &recipes.next).current_dir(recipes.folder.path());
    assert_eq!(printed(&mut node).await, "alice bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn pgjdbc_asks_the_plug_in_for_each_connection() {
    let recipes = Recipes::new().await;
    recipes.write("java", "TokenFilePlugin.java");
    let url = blocks(&recipes.page, "text").into_iter().find(|block| block.starts_with("jdbc:")).unwrap();
    let program = "import java.nio.file.*; import java.sql.*;\n\
        public class Main {\n\
          static String who(String url) throws Exception {\n\
            try (var c = DriverManager.getConnection(url); var r = c.createStatement().executeQuery(\"select current_user\")) {\n\
              r.next(); return r.getString(1);\n\
            }\n\
          }\n\
          public static void main(String[] a) throws Exception {\n\
            var one = who(a[0]); Files.writeString(Path.of(\"token\"), System.getenv(\"NEXT\"));\n\
            System.out.println(one + \" \" + who(a[0]));\n\
          }\n\
        }\n";
    fs::write(recipes.path("Main.java"), program).unwrap();
    let Some(jar) = pgjdbc() else { return };
    let path = format!("{jar}:.");
    let mut javac = tokio::process::Command::new("javac");
    printed(
        javac.args(["-cp", &path, "TokenFilePlugin.java", "Main.java"]).current_dir(recipes.folder.path()),
    )
    .await;
    let mut java = tokio::process::Command::new("java");
    java.args(["-cp", &path, "Main", &recipes.here(&url)]).env("NEXT", &recipes.next);
    assert_eq!(printed(java.current_dir(recipes.folder.path())).await, "alice bob");
}
