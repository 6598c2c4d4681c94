//! The proxy as its users meet it: real clients, a real PostgreSQL, an issuer over HTTP, an STS and a login
//! gate that check what they are given. A test whose name begins with a letter and a number proves the promise of
//! that code in `docs/requirements.md`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod addresses;
mod admin;
mod agent;
mod architecture;
mod balancer;
mod cancel;
mod cancel_crowds;
mod chart;
mod db_user;
mod db_user_docs;
mod device_flow;
mod disconnects;
mod dns;
mod docs;
mod doctor;
mod egress;
mod endpoints;
mod examples;
mod failover;
mod fidelity;
mod floods;
mod groups;
mod health;
mod iam_policies;
mod keys;
mod lifecycle;
mod limits;
mod listeners;
mod load;
mod log;
mod login;
mod memory;
mod oauthbearer;
mod packaging;
mod pool;
mod refusals;
mod reload;
mod replicas;
mod requirements;
mod restart;
mod rolling_restart;
mod routing;
mod session_limits;
mod sts;
mod supervision;
mod terraform;
mod tls;
mod tokens;
mod tracker_live;
mod tracker_model;
mod upstream;
mod wire;
mod world;
