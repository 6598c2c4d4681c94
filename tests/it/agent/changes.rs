//! Events of a laptop: it sleeps past the end of a token, and it changes networks.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pgpassport::agent::PersonalLogin;
use pgpassport::net::resolver::Resolver;
use pgpassport::secret::Jwt;

use super::LocalAgent;
use super::refresh::{agent_of, connect};
use crate::sign_in::asked;
use crate::sign_in::session::person_of;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_slept_past_the_end_of_the_token_renews_it() {
    let world = World::start().await;
    let person = person_of(&world, "").await;
    let (agent, folder) = agent_of(&person).await;
    let open = connect(folder.clone()).await.unwrap();
    let before = asked(&world.cloud.issuer);
    let process = Pid::from_raw(agent.id().unwrap().try_into().unwrap());
    kill(process, Signal::SIGSTOP).unwrap();
    // A tool connects while the machine falls asleep, and the token's time is over when it wakes up.
    let waiting = tokio::spawn(connect(folder.clone()));
    let record = std::fs::read(person.record()).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["expires_at"] = 1.into();
    std::fs::write(person.record(), record.to_string()).unwrap();
    kill(process, Signal::SIGCONT).unwrap();
    waiting.await.unwrap().unwrap();
    connect(folder).await.unwrap();
    assert_eq!(asked(&world.cloud.issuer) - before, 1);
    open.query_one("select 1", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_name_is_resolved_for_each_connection() {
    let world = World::start().await;
    let (elsewhere, here) = (Ipv4Addr::new(127, 0, 0, 9), Ipv4Addr::LOCALHOST);
    let address = Arc::new(Mutex::new(IpAddr::from(here)));
    let (asked, port) = (Arc::clone(&address), world.port);
    let resolver = Resolver::from_fn(move |_| Ok(vec![SocketAddr::new(*asked.lock().unwrap(), port)]));
    let token = world.token("alice");
    let login =
        move || Ok(PersonalLogin { token: Jwt::new(token.clone().into_bytes()), user: "token".to_owned() });
    let ca = world.listener_ca().write(&world.folder()).unwrap();
    let agent = LocalAgent::resolving(resolver, (&world, "localhost"), &ca, login).await;
    let open = agent.connect().await.unwrap();
    *address.lock().unwrap() = elsewhere.into();
    let error = agent.refusal().await;
    assert_eq!(error.code().code(), "57P03", "{error:?}");
    assert_eq!(error.hint(), Some("Check the network and the VPN, and proxy in the profile."));
    *address.lock().unwrap() = here.into();
    agent.connect().await.unwrap();
    open.query_one("select 1", &[]).await.unwrap();
}
