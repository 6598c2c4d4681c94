//! sqlx, with its pool.

use contract::{Big, Note, Problem, ask, check, env, expect, rows, say};
use futures_util::TryStreamExt as _;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions, PgSslMode};
use sqlx::{AssertSqlSafe, Connection as _, Error, Executor as _, PgConnection};

fn options(token: &str, host: &str, ca: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .host(host)
        .port(env("PORT").parse().unwrap())
        .username(&env("USER"))
        .database(&env("DATABASE"))
        .password(token)
        .ssl_mode(PgSslMode::VerifyFull)
        .ssl_root_cert(ca)
}

async fn connect(token: &str) -> Result<PgConnection, Error> {
    PgConnection::connect_with(&options(token, &env("HOST"), &env("CA"))).await
}

async fn session() -> Result<PgConnection, Error> {
    connect(&env("JWT_3000")).await
}

async fn user(token: &str) -> Result<String, Error> {
    sqlx::query_scalar("select current_user::text").fetch_one(&mut connect(token).await?).await
}

fn state(error: &Error) -> String {
    error
        .as_database_error()
        .and_then(|error| error.code())
        .map_or_else(|| format!("none ({error})"), Into::into)
}

async fn verify() -> Note {
    for (host, ca) in [(env("HOST"), env("OTHER_CA")), (env("OTHER_HOST"), env("CA"))] {
        match PgConnection::connect_with(&options(&env("JWT_3000"), &host, &ca)).await {
            Ok(_) => return Err("connected".into()),
            Err(error) if format!("{error:?}").contains("InvalidCertificate") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::new())
}

async fn refused() -> Note {
    let Err(error) = connect(&env("JWT_EXPIRED")).await else { return Err("let in".into()) };
    let answer = error.as_database_error().ok_or("not an answer of the server")?;
    let answer = answer.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    expect(answer.code(), "28P01")?;
    expect(answer.detail().is_some_and(|detail| detail.contains("the token expired")), true)?;
    expect(answer.hint().is_some(), true)?;
    Ok("`code` 28P01, `detail` and `hint` of `PgDatabaseError`".to_owned())
}

async fn prepared() -> Note {
    let mut connection = session().await?;
    for n in [21, 4] {
        let twice: i32 = sqlx::query_scalar("select $1 * 2").bind(n).fetch_one(&mut connection).await?;
        expect(twice, n * 2)?;
    }
    let count = "select count(*) from pg_prepared_statements where statement like '%* 2'";
    expect(sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection).await?, 1)?;
    Ok(String::new())
}

async fn broken() -> Note {
    let mut connection = session().await?;
    let mut states = Vec::new();
    for sql in ["begin", "select 1/0", "select 1", "rollback", "select 7"] {
        if let Err(error) = connection.execute(sql).await {
            states.push(state(&error));
        }
    }
    expect(states, vec!["22012".to_owned(), "25P02".to_owned()])?;
    Ok(String::new())
}

async fn copied(pool: &PgPool) -> Note {
    let mut connection = pool.acquire().await?;
    connection.execute("create temp table t (n int, text text)").await?;
    let mut copy = connection.copy_in_raw("copy t from stdin").await?;
    copy.send(rows().into_bytes()).await?;
    copy.finish().await?;
    let taken: Vec<_> = connection.copy_out_raw("copy t to stdout").await?.try_collect().await?;
    expect(taken.concat() == rows().as_bytes(), true)?;
    connection.execute("drop table t").await?;
    Ok(String::new())
}

async fn big(pool: &PgPool) -> Note {
    let sql = env("BIG_SQL");
    let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch(pool);
    let mut big = Big::default();
    while let Some(line) = rows.try_next().await? {
        big.add(line.as_bytes());
    }
    big.finish()
}

async fn notified(pool: &PgPool) -> Note {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("matrix").await?;
    pool.execute("notify matrix, 'hello'").await?;
    let heard = listener.recv().await?;
    expect((heard.channel(), heard.payload()), ("matrix", "hello"))?;
    Ok("`PgListener`".to_owned())
}

async fn drained(pool: &PgPool) -> Note {
    let mut idle = session().await?;
    ask("restart").await?;
    let error = idle.execute("select 1").await.err().ok_or("the old session goes on")?;
    expect(user(&env("JWT_3000")).await?, env("USER"))?;
    // The pool looks at a connection before it hands it out.
    expect(sqlx::query_scalar::<_, i32>("select 7").fetch_one(pool).await?, 7)?;
    let said = error
        .as_database_error()
        .and_then(|error| error.code())
        .map_or_else(|| error.to_string(), Into::into);
    Ok(format!("`{said}`; a pool connects again unseen"))
}

#[tokio::main]
async fn main() -> Result<(), Problem> {
    say(json!({ "version": "0.9.0 (rustls 0.23)" }));
    for size in ["800", "3000", "16000"] {
        let login = async {
            expect(user(&env(&format!("JWT_{size}"))).await?, env("USER"))?;
            Ok(String::new())
        };
        check(&format!("login-{size}"), login).await;
    }
    let pool = PgPoolOptions::new().max_connections(4);
    let pool = pool.connect_lazy_with(options("stale", &env("HOST"), &env("CA")));
    pool.set_connect_options(options(&env("JWT_3000"), &env("HOST"), &env("CA")));
    check("verify", verify()).await;
    check("refused", refused()).await;
    check("prepared", prepared()).await;
    check("error", broken()).await;
    check("copy", copied(&pool)).await;
    say(json!({ "check": "cancel", "result": "absent", "note": "no function for it" }));
    check("big", big(&pool)).await;
    check("notify", notified(&pool)).await;
    check("drain", drained(&pool)).await;
    // The pool began with a token that would have been refused.
    say(
        json!({ "extra": "a fresh token for new connections of a pool: `set_connect_options`", "result": "ok" }),
    );
    Ok(())
}
