//! sqlx for MySQL, with its pool.

use contract::{Big, Note, Problem, ROW_LENGTH, TABLE, ask, check, env, expect, say};
use futures_util::TryStreamExt as _;
use serde_json::json;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlPoolOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Error, Executor as _, MySqlConnection, Row as _};

fn options(token: &str, host: &str, port: &str, ca: &str) -> MySqlConnectOptions {
    MySqlConnectOptions::new()
        .host(host)
        .port(port.parse().unwrap())
        .username(&env("USER"))
        .database(&env("DATABASE"))
        .password(token)
        .enable_cleartext_plugin(true)
        .ssl_mode(MySqlSslMode::VerifyIdentity)
        .ssl_ca(ca)
}

fn usual(token: &str) -> MySqlConnectOptions {
    options(token, &env("HOST"), &env("PORT"), &env("CA"))
}

async fn connect(token: &str) -> Result<MySqlConnection, Error> {
    MySqlConnection::connect_with(&usual(token)).await
}

async fn session() -> Result<MySqlConnection, Error> {
    connect(&env("JWT_3000")).await
}

async fn user(token: &str) -> Result<String, Error> {
    let user: String =
        sqlx::query_scalar("select current_user()").fetch_one(&mut connect(token).await?).await?;
    Ok(user.split('@').next().unwrap_or_default().to_owned())
}

fn answer(error: &Error) -> Result<&MySqlDatabaseError, Problem> {
    let answer = error.as_database_error().ok_or_else(|| format!("not an answer of the server: {error}"))?;
    Ok(answer.downcast_ref())
}

async fn verify() -> Note {
    let token = env("JWT_3000");
    let wrong_authority = options(&token, &env("HOST"), &env("PORT"), &env("OTHER_CA"));
    let wrong_name = options(&token, &env("OTHER_HOST"), &env("OTHER_PORT"), &env("CA"));
    for options in [wrong_authority, wrong_name] {
        match MySqlConnection::connect_with(&options).await {
            Ok(_) => return Err("connected".into()),
            Err(error) if format!("{error:?}").contains("InvalidCertificate") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::new())
}

async fn refused() -> Note {
    let Err(error) = connect(&env("JWT_EXPIRED")).await else { return Err("let in".into()) };
    let answer = answer(&error)?;
    expect((answer.number(), answer.code()), (1045, Some("28000")))?;
    expect(answer.message().contains(&env("REASON")), true)?;
    Ok("`number()` 1045, `code()` 28000, and the reason".to_owned())
}

async fn prepared() -> Note {
    let mut connection = session().await?;
    for n in [21, 4] {
        let query = sqlx::query_scalar("select cast(? as signed) * 2").bind(n);
        expect(query.fetch_one(&mut connection).await?, n * 2)?;
    }
    let executed = "show session status like 'Com_stmt_execute'";
    let executed = connection.fetch_one(sqlx::raw_sql(executed)).await?;
    expect(executed.try_get::<String, _>(1)?, "2".to_owned())?;
    Ok(String::new())
}

async fn broken() -> Note {
    let mut connection = session().await?;
    connection.execute(TABLE).await?;
    let mut transaction = connection.begin().await?;
    transaction.execute("insert into t values (1, 'one')").await?;
    let error =
        transaction.execute("insert into t values (1, 'two')").await.err().ok_or("it did not fail")?;
    let answer = answer(&error)?;
    expect((answer.number(), answer.code()), (1062, Some("23000")))?;
    transaction.rollback().await?;
    expect(sqlx::query_scalar::<_, i64>("select count(*) from t").fetch_one(&mut connection).await?, 0)?;
    Ok(String::new())
}

async fn multi() -> Note {
    let mut connection = session().await?;
    let rows = connection.fetch_all(sqlx::raw_sql("select 1; select 2; select 3")).await?;
    let found: Result<Vec<i64>, Error> = rows.iter().map(|row| row.try_get(0)).collect();
    expect(found?, vec![1, 2, 3])?;
    Ok("`raw_sql()`".to_owned())
}

async fn cancelled() -> Note {
    let (mut connection, mut other) = (session().await?, session().await?);
    let id: u64 = sqlx::query_scalar("select connection_id()").fetch_one(&mut connection).await?;
    let sleep = AssertSqlSafe(env("SLEEP_SQL"));
    let (slept, told) = tokio::join!(connection.fetch_all(sqlx::raw_sql(sleep)), async {
        ask("sleeping").await?;
        other.execute(AssertSqlSafe(format!("kill query {id}"))).await.map_err(Problem::from)
    });
    told?;
    expect(answer(&slept.err().ok_or("it did not fail")?)?.number(), 1317)?;
    let after: u64 = sqlx::query_scalar("select connection_id()").fetch_one(&mut connection).await?;
    expect(after, id)?;
    Ok("`KILL QUERY` with `connection_id()`; a future that is dropped closes the connection".to_owned())
}

async fn big(pool: &MySqlPool) -> Note {
    let sql = env("BIG_SQL");
    let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch(pool);
    let mut big = Big::default();
    while let Some(line) = rows.try_next().await? {
        big.add(line.as_bytes());
    }
    big.finish()
}

async fn row() -> Note {
    let sql = AssertSqlSafe(format!("select repeat('x', {ROW_LENGTH})"));
    let text: String = sqlx::query_scalar(sql).fetch_one(&mut session().await?).await?;
    expect(text.len(), ROW_LENGTH)?;
    expect(text.bytes().all(|byte| byte == b'x'), true)?;
    Ok(String::new())
}

async fn drained(pool: &MySqlPool) -> Note {
    let mut idle = session().await?;
    ask("restart").await?;
    let error = idle.execute("select 1").await.err().ok_or("the old session goes on")?;
    expect(user(&env("JWT_3000")).await?, env("USER"))?;
    // The pool looks at a connection before it hands it out.
    expect(sqlx::query_scalar::<_, i64>("select 7").fetch_one(pool).await?, 7)?;
    Ok(format!("`{error}`; a pool connects again unseen"))
}

#[tokio::main]
async fn main() -> Result<(), Problem> {
    say(json!({ "version": "0.9.0 (rustls 0.23)" }));
    for size in ["800", "3000", "16000", "20000"] {
        let login = async {
            expect(user(&env(&format!("JWT_{size}"))).await?, env("USER"))?;
            Ok(String::new())
        };
        check(&format!("login-{size}"), login).await;
    }
    let pool = MySqlPoolOptions::new().max_connections(4).connect_lazy_with(usual("stale"));
    pool.set_connect_options(usual(&env("JWT_3000")));
    check("verify", verify()).await;
    check("refused", refused()).await;
    check("prepared", prepared()).await;
    check("error", broken()).await;
    check("multi", multi()).await;
    say(json!({ "check": "infile", "result": "absent", "note": "the driver sends no file" }));
    check("cancel", cancelled()).await;
    check("big", big(&pool)).await;
    check("row", row()).await;
    say(json!({ "check": "reset", "result": "absent", "note": "the driver has no such command" }));
    check("drain", drained(&pool)).await;
    // The pool began with a token that would have been refused.
    say(
        json!({ "extra": "a fresh token for new connections of a pool: `set_connect_options`", "result": "ok" }),
    );
    let without = usual(&env("JWT_3000")).enable_cleartext_plugin(false);
    let without = MySqlConnection::connect_with(&without).await.err().map(|error| error.to_string());
    let needed = without.is_some_and(|said| said.contains("mysql_cleartext_plugin"));
    let result = if needed { "ok" } else { "failed" };
    say(json!({ "limit": "`enable_cleartext_plugin(true)` is necessary", "result": result }));
    Ok(())
}
