//! mysql_async, with rustls and its pool.

use std::path::PathBuf;

use contract::{Big, Note, Problem, ROW_LENGTH, TABLE, ask, check, env, expect, rows, say};
use mysql_async::prelude::Queryable as _;
use mysql_async::{
    Conn, Error, Opts, OptsBuilder, Pool, PoolConstraints, PoolOpts, ServerError, SslOpts, WhiteListFsHandler,
};
use serde_json::json;

/// Checks certificate and name.
fn tls(ca: &str) -> SslOpts {
    SslOpts::default().with_root_certs(vec![PathBuf::from(ca).into()]).with_disable_built_in_roots(true)
}

fn options(token: &str, host: &str, port: &str, ca: &str) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname(host)
        .tcp_port(port.parse().unwrap())
        .user(Some(env("USER")))
        .pass(Some(token))
        .db_name(Some(env("DATABASE")))
        .prefer_socket(false)
        .enable_cleartext_plugin(true)
        .ssl_opts(tls(ca))
}

fn usual(token: &str) -> OptsBuilder {
    options(token, &env("HOST"), &env("PORT"), &env("CA"))
}

async fn connect(token: &str) -> Result<Conn, Error> {
    Conn::new(usual(token)).await
}

async fn session() -> Result<Conn, Error> {
    connect(&env("JWT_3000")).await
}

async fn user(token: &str) -> Result<String, Problem> {
    let mut connection = connect(token).await?;
    let user: String = connection.query_first("select current_user()").await?.ok_or("no row")?;
    connection.disconnect().await?;
    Ok(user.split('@').next().unwrap_or_default().to_owned())
}

fn answer(error: Error) -> Result<ServerError, Problem> {
    match error {
        Error::Server(answer) => Ok(answer),
        other => Err(format!("not an answer of the server: {other}").into()),
    }
}

async fn verify() -> Note {
    let token = env("JWT_3000");
    let wrong_authority = options(&token, &env("HOST"), &env("PORT"), &env("OTHER_CA"));
    let wrong_name = options(&token, &env("OTHER_HOST"), &env("OTHER_PORT"), &env("CA"));
    for options in [wrong_authority, wrong_name] {
        match Conn::new(options).await {
            Ok(_) => return Err("connected".into()),
            Err(error) if format!("{error:?}").contains("InvalidCertificate") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::new())
}

async fn refused() -> Note {
    let Err(error) = connect(&env("JWT_EXPIRED")).await else { return Err("let in".into()) };
    let answer = answer(error)?;
    expect((answer.code, answer.state.as_str()), (1045, "28000"))?;
    expect(answer.message.contains(&env("REASON")), true)?;
    Ok("`code` 1045, `state` 28000, and the reason".to_owned())
}

async fn prepared() -> Note {
    let mut connection = session().await?;
    let statement = connection.prep("select cast(? as signed) * 2").await?;
    for n in [21, 4] {
        expect(connection.exec_first(&statement, (n,)).await?, Some(n * 2))?;
    }
    Ok("`prep()`".to_owned())
}

async fn broken() -> Note {
    let mut connection = session().await?;
    connection.query_drop(TABLE).await?;
    connection.query_drop("begin").await?;
    connection.query_drop("insert into t values (1, 'one')").await?;
    let error =
        connection.query_drop("insert into t values (1, 'two')").await.err().ok_or("it did not fail")?;
    let answer = answer(error)?;
    expect((answer.code, answer.state.as_str()), (1062, "23000"))?;
    connection.query_drop("rollback").await?;
    expect(connection.query_first("select count(*) from t").await?, Some(0))?;
    Ok(String::new())
}

async fn multi() -> Note {
    let mut connection = session().await?;
    let mut results = connection.query_iter("select 1; select 2; select 3").await?;
    let mut found: Vec<i32> = Vec::new();
    while !results.is_empty() {
        found.extend(results.collect::<i32>().await?);
    }
    expect(found, vec![1, 2, 3])?;
    Ok(String::new())
}

async fn loaded() -> Note {
    let path = PathBuf::from(env("DIR")).join("rows");
    std::fs::write(&path, rows())?;
    let handler = WhiteListFsHandler::new([path.clone()]);
    let mut connection = Conn::new(usual(&env("JWT_3000")).local_infile_handler(Some(handler))).await?;
    connection.query_drop(TABLE).await?;
    let load = format!("load data local infile '{}' into table t character set utf8mb4", path.display());
    connection.query_drop(load).await?;
    let line = |(n, text): (u32, String)| format!("{n}\t{text}\n");
    let taken = connection.query_map("select n, text from t order by n", line).await?;
    expect(taken.concat() == rows(), true)?;
    Ok("`local_infile_handler`".to_owned())
}

async fn cancelled() -> Note {
    let (mut connection, mut other) = (session().await?, session().await?);
    let id = connection.id();
    let sleep = env("SLEEP_SQL");
    let (slept, told) = tokio::join!(connection.query_drop(sleep), async {
        ask("sleeping").await?;
        other.query_drop(format!("kill query {id}")).await.map_err(Problem::from)
    });
    told?;
    expect(answer(slept.err().ok_or("it did not fail")?)?.code, 1317)?;
    expect(connection.query_first("select 7").await?, Some(7))?;
    Ok("`KILL QUERY` with the id of `id()`".to_owned())
}

async fn big() -> Note {
    let mut connection = session().await?;
    let mut rows = connection.query_iter(env("BIG_SQL")).await?;
    let mut big = Big::default();
    while let Some(row) = rows.next().await? {
        big.add(&mysql_async::from_row::<Vec<u8>>(row));
    }
    big.finish()
}

async fn row() -> Note {
    let sql = format!("select repeat('x', {ROW_LENGTH})");
    let text: String = session().await?.query_first(sql).await?.ok_or("no row")?;
    expect(text.len(), ROW_LENGTH)?;
    expect(text.bytes().all(|byte| byte == b'x'), true)?;
    Ok(String::new())
}

async fn reset() -> Note {
    let mut connection = session().await?;
    connection.query_drop("set @kept = 7").await?;
    expect(connection.query_first("select @kept").await?, Some(7))?;
    expect(connection.reset().await?, true)?;
    expect(connection.query_first("select @kept").await?, Some(None::<i32>))?;
    Ok("`reset()`, which a pool does for each new owner".to_owned())
}

async fn drained() -> Note {
    let mut idle = session().await?;
    ask("restart").await?;
    let error = idle.query_drop("select 1").await.err().ok_or("the old session goes on")?;
    expect(user(&env("JWT_3000")).await?, env("USER"))?;
    Ok(format!("`{error}`"))
}

async fn pooled() -> Result<bool, Problem> {
    let one = PoolConstraints::new(1, 1).ok_or("a pool of one")?;
    let options = usual(&env("JWT_3000")).pool_opts(PoolOpts::new().with_constraints(one));
    let pool = Pool::new(Opts::from(options));
    let mut connection = pool.get_conn().await?;
    connection.query_drop("set @kept = 7").await?;
    let id = connection.id();
    drop(connection);
    let mut again = pool.get_conn().await?;
    let kept: Option<Option<i32>> = again.query_first("select @kept").await?;
    let same = again.id() == id && kept == Some(None);
    drop(again);
    pool.disconnect().await?;
    Ok(same)
}

#[tokio::main]
async fn main() -> Result<(), Problem> {
    say(json!({ "version": "0.37.1 (rustls 0.23)" }));
    for size in ["800", "3000", "16000", "20000"] {
        let login = async {
            expect(user(&env(&format!("JWT_{size}"))).await?, env("USER"))?;
            Ok(String::new())
        };
        check(&format!("login-{size}"), login).await;
    }
    check("verify", verify()).await;
    check("refused", refused()).await;
    check("prepared", prepared()).await;
    check("error", broken()).await;
    check("multi", multi()).await;
    check("infile", loaded()).await;
    check("cancel", cancelled()).await;
    check("big", big()).await;
    check("row", row()).await;
    check("reset", reset()).await;
    check("drain", drained()).await;
    let result = if pooled().await? { "ok" } else { "failed" };
    say(
        json!({ "extra": "a pool (`Pool`), which resets a connection for its next owner", "result": result }),
    );
    let without = Conn::new(usual(&env("JWT_3000")).enable_cleartext_plugin(false)).await;
    let needed = without.err().is_some_and(|error| error.to_string().contains("mysql_clear_password"));
    let result = if needed { "ok" } else { "failed" };
    say(json!({ "limit": "`enable_cleartext_plugin(true)` is necessary", "result": result }));
    Ok(())
}
