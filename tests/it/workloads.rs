//! The recipes of docs/workloads.md, run as they stand there, with a token file that changes between two connections.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use crate::docs::blocks;
use crate::world::World;
use crate::world::drivers::{go, hikaricp, node, pgjdbc, printed, python, rails};

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

/// The recipe is for pgx 5. The distribution has pgx 4, where the last call has another name.
#[tokio::test(flavor = "multi_thread")]
async fn gos_pool_reads_the_token_for_each_connection() {
    let recipes = Recipes::new().await;
    let recipe =
        recipes.here(&blocks(&recipes.page, "go").remove(0)).replace("NewWithConfig", "ConnectConfig");
    let recipe = recipe.replace("host=localhost", &format!("host=localhost port={}", recipes.world.port));
    let program = format!(
        "package main\nimport (\n\"context\"\n\"fmt\"\n\"os\"\n\"strings\"\n\"github.com/jackc/pgx/v4\"\n\
         \"github.com/jackc/pgx/v4/pgxpool\"\n)\n\
         func who(c *pgxpool.Conn) (name string) {{\n\
           if err := c.QueryRow(context.Background(), \"select current_user::text\").Scan(&name); err != nil {{ panic(err) }}\n\
           return\n}}\n\
         func run(ctx context.Context) error {{\n{recipe}\n\
           if err != nil {{ return err }}\n\
           one, err := pool.Acquire(ctx)\nif err != nil {{ return err }}\n\
           if err := os.WriteFile(\"token\", []byte(os.Getenv(\"NEXT\")), 0o600); err != nil {{ return err }}\n\
           two, err := pool.Acquire(ctx)\nif err != nil {{ return err }}\n\
           fmt.Println(who(one), who(two))\nreturn nil\n}}\n\
         func main() {{ if err := run(context.Background()); err != nil {{ panic(err) }} }}\n"
    );
    fs::write(recipes.path("main.go"), program).unwrap();
    let Some(mut go) = go() else { return };
    go.args(["run", "main.go"]).env("NEXT", &recipes.next).current_dir(recipes.folder.path());
    assert_eq!(printed(&mut go).await, "alice bob");
}

/// Compiles the folder's Java files, and runs `Main`.
async fn run_java(recipes: &Recipes, classes: &str, arguments: &[&str]) -> String {
    let path = format!("{classes}:.");
    let files = fs::read_dir(recipes.folder.path()).unwrap().map(|file| file.unwrap().file_name());
    let sources: Vec<_> = files.filter(|name| name.to_string_lossy().ends_with(".java")).collect();
    let mut javac = Command::new("javac");
    printed(javac.args(["-cp", &path]).args(sources).current_dir(recipes.folder.path())).await;
    let mut java = Command::new("java");
    java.args(["-cp", &path, "Main"]).args(arguments).env("NEXT", &recipes.next);
    printed(java.current_dir(recipes.folder.path())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn hikaricp_asks_the_plug_in_for_each_connection() {
    let recipes = Recipes::new().await;
    recipes.write("java", "TokenFilePlugin.java");
    recipes.write("java", "OrdersPool.java");
    let program = "import java.nio.file.*; import java.sql.*;\n\
        public class Main {\n\
          static String who(Connection c) throws Exception {\n\
            var r = c.createStatement().executeQuery(\"select current_user\"); r.next(); return r.getString(1);\n\
          }\n\
          public static void main(String[] a) throws Exception {\n\
            try (var pool = OrdersPool.open()) {\n\
              var held = new Connection[10];\n\
              for (int i = 0; i < 10; i++) held[i] = pool.getConnection();\n\
              Files.writeString(Path.of(\"token\"), System.getenv(\"NEXT\"));\n\
              var one = who(held[0]) + who(held[9]); pool.evictConnection(held[0]);\n\
              System.out.println(one + \" \" + who(pool.getConnection()));\n\
            }\n\
          }\n\
        }\n";
    fs::write(recipes.path("Main.java"), program).unwrap();
    let (Some(jar), Some(pool)) = (pgjdbc(), hikaricp()) else { return };
    assert_eq!(run_java(&recipes, &format!("{jar}:{pool}"), &[]).await, "alicealice bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn rails_reads_the_token_for_each_connection() {
    let recipes = Recipes::new().await;
    recipes.write("ruby", "config/initializers/pgpassport.rb");
    recipes.write("yaml", "config/database.yml");
    let program = "require 'active_record'\nrequire 'yaml'\nrequire './config/initializers/pgpassport'\n\
                   ActiveRecord::Base.establish_connection(YAML.load_file('config/database.yml')['production'])\n\
                   pool = ActiveRecord::Base.connection_pool\n\
                   who = ->(c) { c.select_value('select current_user') }\n\
                   one = pool.checkout\nfirst = who.(one)\nFile.write('token', ENV['NEXT'])\n\
                   two = pool.checkout\nprint who.(one), ' ', who.(two)\n\
                   one.reconnect!\nputs ' ' + who.(one)\n";
    let Some(mut ruby) = rails() else { return };
    ruby.args(["-e", program]).env("NEXT", &recipes.next).current_dir(recipes.folder.path());
    let said = printed(&mut ruby).await;
    assert!(["alice bob bob", "alice bob alice"].contains(&&*said), "{said}");
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
    assert_eq!(run_java(&recipes, &jar, &[&recipes.here(&url)]).await, "alice bob");
}
