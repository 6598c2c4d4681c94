//! tokio-postgres, with rustls.

use std::future::poll_fn;
use std::sync::Arc;

use contract::{Big, Note, Problem, ask, check, env, expect, rows, say};
use futures_util::{SinkExt as _, TryStreamExt as _, pin_mut};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::{AsyncMessage, Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Checks certificate and name, whatever the configuration says of TLS: what `sslmode=verify-full` is elsewhere.
fn tls(ca: &str, alpn: bool) -> MakeRustlsConnect {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    if alpn {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    MakeRustlsConnect::new(config)
}

fn config(token: &str, host: &str) -> Config {
    let mut config = Config::new();
    config.host(host).port(env("PORT").parse().unwrap()).user(env("USER")).dbname(env("DATABASE"));
    config.password(token).ssl_mode(SslMode::Require);
    config
}

/// A client, what the server says unasked, and how its connection ends.
struct Session {
    client: Client,
    messages: mpsc::UnboundedReceiver<AsyncMessage>,
    end: JoinHandle<Option<Error>>,
}

async fn connect_to(token: &str, host: &str, ca: &str) -> Result<Session, Error> {
    let (client, mut connection) = config(token, host).connect(tls(ca, false)).await?;
    let (sender, messages) = mpsc::unbounded_channel();
    let end = tokio::spawn(async move {
        loop {
            match poll_fn(|cx| connection.poll_message(cx)).await {
                Some(Ok(message)) => drop(sender.send(message)),
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    });
    Ok(Session { client, messages, end })
}

async fn connect(token: &str) -> Result<Client, Error> {
    Ok(connect_to(token, &env("HOST"), &env("CA")).await?.client)
}

async fn session() -> Result<Client, Error> {
    connect(&env("JWT_3000")).await
}

async fn user(token: &str) -> Result<String, Error> {
    connect(token).await?.query_one("select current_user::text", &[]).await.map(|row| row.get(0))
}

fn state(error: &Error) -> String {
    error.code().map_or_else(|| format!("none ({error})"), |code| code.code().to_owned())
}

async fn verify() -> Note {
    for (host, ca) in [(env("HOST"), env("OTHER_CA")), (env("OTHER_HOST"), env("CA"))] {
        match connect_to(&env("JWT_3000"), &host, &ca).await {
            Ok(_) => return Err("connected".into()),
            Err(error) if format!("{error:?}").contains("InvalidCertificate") => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(String::new())
}

async fn refused() -> Note {
    let Err(error) = connect(&env("JWT_EXPIRED")).await else { return Err("let in".into()) };
    let answer = error.as_db_error().ok_or("not an answer of the server")?;
    expect(answer.code().code(), "28P01")?;
    expect(answer.detail().is_some_and(|detail| detail.contains("the token expired")), true)?;
    expect(answer.hint().is_some(), true)?;
    Ok("`code` 28P01, `detail` and `hint` of `DbError`".to_owned())
}

async fn prepared() -> Note {
    let client = session().await?;
    let statement = client.prepare("select $1::int * 2").await?;
    for n in [21, 4] {
        expect(client.query_one(&statement, &[&n]).await?.get::<_, i32>(0), n * 2)?;
    }
    // Several at once go out together.
    let (one, two) = tokio::join!(client.query_one(&statement, &[&1]), client.query_one(&statement, &[&2]));
    expect((one?.get::<_, i32>(0), two?.get::<_, i32>(0)), (2, 4))?;
    Ok("also pipelined".to_owned())
}

async fn broken() -> Note {
    let client = session().await?;
    let mut states = Vec::new();
    for sql in ["begin", "select 1/0", "select 1", "rollback", "select 7"] {
        if let Err(error) = client.batch_execute(sql).await {
            states.push(state(&error));
        }
    }
    expect(states, vec!["22012".to_owned(), "25P02".to_owned()])?;
    Ok(String::new())
}

async fn copied() -> Note {
    let client = session().await?;
    client.batch_execute("create temp table t (n int, text text)").await?;
    let sink = client.copy_in("copy t from stdin").await?;
    pin_mut!(sink);
    sink.send(std::io::Cursor::new(rows())).await?;
    sink.finish().await?;
    let taken = client.copy_out("copy t to stdout").await?;
    let taken: Vec<_> = taken.try_collect().await?;
    expect(taken.concat() == rows().as_bytes(), true)?;
    Ok(String::new())
}

async fn cancelled() -> Note {
    let client = session().await?;
    let pid = "select pg_backend_pid()";
    let before: i32 = client.query_one(pid, &[]).await?.get(0);
    let cancel = client.cancel_token();
    let sql = env("SLEEP_SQL");
    let (slept, told) = tokio::join!(client.batch_execute(&sql), async {
        ask("sleeping").await?;
        cancel.cancel_query(tls(&env("CA"), false)).await.map_err(Problem::from)
    });
    told?;
    expect(state(&slept.err().ok_or("it did not fail")?), "57014".to_owned())?;
    expect(client.query_one(pid, &[]).await?.get::<_, i32>(0), before)?;
    Ok("`CancelToken`".to_owned())
}

async fn big() -> Note {
    let client = session().await?;
    let rows = client.query_raw(&env("BIG_SQL"), Vec::<i32>::new()).await?;
    pin_mut!(rows);
    let mut big = Big::default();
    while let Some(row) = rows.try_next().await? {
        big.add(row.get::<_, &str>(0).as_bytes());
    }
    big.finish()
}

async fn notified() -> Note {
    let mut listener = connect_to(&env("JWT_3000"), &env("HOST"), &env("CA")).await?;
    listener.client.batch_execute("listen matrix").await?;
    session().await?.batch_execute("notify matrix, 'hello'").await?;
    match listener.messages.recv().await {
        Some(AsyncMessage::Notification(heard)) => {
            expect((heard.channel(), heard.payload()), ("matrix", "hello"))?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok("`Connection::poll_message`".to_owned())
}

async fn drained() -> Note {
    let idle = connect_to(&env("JWT_3000"), &env("HOST"), &env("CA")).await?;
    ask("restart").await?;
    let error = idle.client.batch_execute("select 1").await.err().ok_or("the old session goes on")?;
    let end = idle.end.await?.ok_or("the connection ended without an error")?;
    expect(user(&env("JWT_3000")).await?, env("USER"))?;
    Ok(format!("`{error}` for the statement; `code` {} for the connection's task", state(&end)))
}

#[tokio::main]
async fn main() -> Result<(), Problem> {
    say(json!({ "version": "0.7.18 (rustls 0.23)" }));
    for size in ["800", "3000", "16000"] {
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
    check("copy", copied()).await;
    check("cancel", cancelled()).await;
    check("big", big()).await;
    check("notify", notified()).await;
    check("drain", drained()).await;
    let mut direct = config(&env("JWT_3000"), &env("HOST"));
    let direct = direct.ssl_negotiation(SslNegotiation::Direct).connect(tls(&env("CA"), true)).await;
    say(json!({
        "extra": "direct TLS (`SslNegotiation::Direct`, with ALPN `postgresql`)",
        "result": if direct.is_ok() { "ok" } else { "failed" },
    }));
    Ok(())
}
