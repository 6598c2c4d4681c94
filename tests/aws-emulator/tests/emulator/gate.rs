//! Decisions of the login gate, with tokens signed here and without `PostgreSQL`.

use aws_emulator::sigv4::{PresignedRequest, TokenRequest, sign};
use aws_emulator::{
    Cloud, CloudOptions, GateOptions, GateRefusal, IssuerOptions, LoginGate, PolicyTemplate, RoleSession,
    SettableClock, names,
};

use crate::support::{login_token, session};

/// Noon of some day: everything here shares this clock.
const NOON: i64 = 1_767_355_200;

struct GateRig {
    cloud: Cloud,
    gate: LoginGate,
    clock: SettableClock,
}

fn rig() -> GateRig {
    let clock = SettableClock::fixed(NOON);
    let gate = LoginGate::start(GateOptions { clock: clock.clone(), ..GateOptions::default() }).unwrap();
    let issuer = IssuerOptions { clock: clock.clone(), ..IssuerOptions::default() };
    let store = gate.store().clone();
    GateRig {
        cloud: Cloud::start(CloudOptions { issuer, store, ..CloudOptions::default() }).unwrap(),
        gate,
        clock,
    }
}

impl GateRig {
    fn session(&self, user: &str, policy: Option<&str>) -> RoleSession {
        let policy = policy.map_or(Vec::new(), |policy| vec![("Policy", policy)]);
        session(&self.cloud, &self.cloud.issuer.token(user), &policy)
    }

    fn judge(&self, user: &str, token: &str) -> Result<(), GateRefusal> {
        self.gate.judge(user, token)
    }
}

fn only(user: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"rds-db:connect","Resource":"arn:aws:rds-db:eu-central-1:123456789012:dbuser:cluster-ABCDEFGHIJKLMNOP/{user}"}}]}}"#
    )
}

fn request<'a>(session: &'a RoleSession, user: &'a str) -> TokenRequest<'a> {
    TokenRequest {
        endpoint: names::ENDPOINT,
        region: names::REGION,
        user,
        access_key_id: &session.access_key_id,
        secret: &session.secret,
        session_token: Some(&session.session_token),
        at: NOON,
    }
}

#[test]
fn a_good_token_is_accepted_for_its_user_only() {
    let rig = rig();
    let session = rig.session("alice", None);
    let token = login_token(&session, "alice", NOON);
    assert_eq!(rig.judge("alice", &token), Ok(()));
    assert_eq!(rig.judge("bob", &token), Err(GateRefusal::InvalidToken("for another database user")));
    let mixed = token.replacen("app.cluster", "App.Cluster", 1);
    assert_eq!(rig.judge("alice", &mixed), Ok(()), "host names have no case");
    let renamed = token.replacen("DBUser=alice", "DBUser=bob", 1);
    assert_eq!(rig.judge("bob", &renamed), Err(GateRefusal::SignatureDoesNotMatch));
    assert_eq!(rig.judge("alice", "secret"), Err(GateRefusal::InvalidToken("no query")));
}

#[test]
fn every_signed_thing_must_be_the_gates_own() {
    let rig = rig();
    let session = rig.session("alice", None);
    let good = request(&session, "alice");
    let judge = |request: TokenRequest<'_>| rig.judge("alice", &sign(&request));
    assert_eq!(judge(good.clone()), Ok(()));
    let other = TokenRequest { endpoint: "other.example.com:5432", ..good.clone() };
    assert_eq!(judge(other), Err(GateRefusal::InvalidToken("for another endpoint")));
    let port = names::ENDPOINT.replace("5432", "5433");
    let other = TokenRequest { endpoint: &port, ..good.clone() };
    assert_eq!(judge(other), Err(GateRefusal::InvalidToken("for another endpoint")));
    let other = TokenRequest { region: "us-east-1", ..good.clone() };
    assert_eq!(judge(other), Err(GateRefusal::InvalidToken("for another Region")));
    let other = TokenRequest { secret: "x", ..good.clone() };
    assert_eq!(judge(other), Err(GateRefusal::SignatureDoesNotMatch));
    let other = TokenRequest { access_key_id: "ASIAAAAAAAAAAAAAAAAA", ..good.clone() };
    assert_eq!(judge(other), Err(GateRefusal::UnknownAccessKey));
    let not_the_session_token = Err(GateRefusal::InvalidToken("not the session token of this access key"));
    assert_eq!(judge(TokenRequest { session_token: None, ..good.clone() }), not_the_session_token);
    let another = rig.session("alice", None);
    let other = TokenRequest { session_token: Some(&another.session_token), ..good.clone() };
    assert_eq!(judge(other), not_the_session_token);
    rig.gate.store().revoke(&session.access_key_id);
    assert_eq!(judge(good), Err(GateRefusal::UnknownAccessKey));
}

/// A token that was changed and then signed again by someone who has the secret.
fn resigned(token: &str, from: &str, to: &str, session: &RoleSession) -> String {
    let changed = token.replacen(from, to, 1);
    assert_ne!(changed, token);
    let signature = PresignedRequest::parse(&changed).unwrap().expected_signature(&session.secret);
    let (unsigned, _) = changed.rsplit_once('=').unwrap();
    format!("{unsigned}={signature}")
}

#[test]
fn a_right_signature_does_not_make_up_for_another_service_or_a_long_life() {
    let rig = rig();
    let session = rig.session("alice", None);
    let token = login_token(&session, "alice", NOON);
    let judge = |from: &str, to: &str| rig.judge("alice", &resigned(&token, from, to, &session));
    assert_eq!(judge("Expires=900", "Expires=60"), Ok(()));
    assert_eq!(
        judge("%2Frds-db%2F", "%2Frds%2F"),
        Err(GateRefusal::InvalidToken("not for the service rds-db"))
    );
    let long = Err(GateRefusal::InvalidToken("not good for 1 to 900 seconds"));
    assert_eq!(judge("Expires=900", "Expires=901"), long);
    assert_eq!(judge("Expires=900", "Expires=0"), long);
}

#[test]
fn tokens_live_for_fifteen_minutes_and_not_longer_than_their_credentials() {
    let rig = rig();
    let session = rig.session("alice", None);
    let token = |at: i64| login_token(&session, "alice", at);
    assert_eq!(
        rig.judge("alice", &token(NOON + 301)),
        Err(GateRefusal::InvalidToken("signature not yet current"))
    );
    assert_eq!(rig.judge("alice", &token(NOON - 899)), Ok(()));
    assert_eq!(
        rig.judge("alice", &token(NOON - 900)),
        Err(GateRefusal::ExpiredToken("the token is too old"))
    );
    rig.clock.advance(899);
    assert_eq!(rig.judge("alice", &token(NOON + 899)), Ok(()));
    rig.clock.advance(1);
    let expired = Err(GateRefusal::ExpiredToken("the credentials that signed it have expired"));
    assert_eq!(rig.judge("alice", &token(NOON + 900)), expired);
}

#[test]
fn role_and_session_policy_must_both_allow() {
    let rig = rig();
    let free = rig.session("alice", None);
    let pinned = rig.session("alice", Some(&only("alice")));
    let judge = |session: &RoleSession, user: &str| rig.judge(user, &login_token(session, user, NOON));
    assert_eq!(judge(&free, "bob"), Ok(()));
    assert_eq!(judge(&pinned, "alice"), Ok(()));
    assert_eq!(judge(&pinned, "bob"), Err(GateRefusal::SessionPolicy));
    let wide = rig.session("alice", Some(&only("*")));
    let mut role = rig.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    role.permission_policy = only("a*");
    rig.cloud.sts.put_role(&role).unwrap();
    assert_eq!(judge(&wide, "bob"), Err(GateRefusal::RolePolicy));
    assert_eq!(judge(&wide, "alice"), Ok(()));
    role.permission_policy = only("alice").replace("Allow", "Deny");
    rig.cloud.sts.put_role(&role).unwrap();
    assert_eq!(judge(&pinned, "alice"), Err(GateRefusal::RolePolicy));
}

#[test]
fn the_session_tag_pins_the_user() {
    let rig = rig();
    rig.cloud.set_policies(PolicyTemplate::TrustSessionTag, PolicyTemplate::PermissionSessionTag).unwrap();
    let tagged = |tag: &str| {
        let claims = rig.cloud.issuer.default_claims("alice").tag("dbuser", tag);
        session(&rig.cloud, &rig.cloud.issuer.mint(claims), &[])
    };
    let judge = |session: &RoleSession, user: &str| rig.judge(user, &login_token(session, user, NOON));
    assert_eq!(judge(&tagged("alice"), "alice"), Ok(()));
    assert_eq!(judge(&tagged("alice"), "bob"), Err(GateRefusal::RolePolicy));
    assert_eq!(judge(&tagged("alice"), "Alice"), Err(GateRefusal::RolePolicy));
    rig.cloud.set_policies(PolicyTemplate::Trust, PolicyTemplate::PermissionSessionTag).unwrap();
    let untagged = rig.session("alice", None);
    assert_eq!(judge(&untagged, "alice"), Err(GateRefusal::RolePolicy));
}

#[test]
fn the_policy_is_for_this_cluster() {
    let rig = rig();
    let mut role = rig.cloud.role(PolicyTemplate::Trust, PolicyTemplate::Permission);
    role.permission_policy = only("*").replace("cluster-ABCDEFGHIJKLMNOP", "cluster-OTHER");
    rig.cloud.sts.put_role(&role).unwrap();
    let session = rig.session("alice", None);
    assert_eq!(rig.judge("alice", &login_token(&session, "alice", NOON)), Err(GateRefusal::RolePolicy));
}

#[test]
fn credentials_of_several_sts_are_good_at_one_gate() {
    let rig = rig();
    let issuer = IssuerOptions { clock: rig.clock.clone(), ..IssuerOptions::default() };
    let store = rig.gate.store().clone();
    let second = Cloud::start(CloudOptions { issuer, store, ..CloudOptions::default() }).unwrap();
    for cloud in [&rig.cloud, &second] {
        let session = session(cloud, &cloud.issuer.token("alice"), &[]);
        assert_eq!(rig.judge("alice", &login_token(&session, "alice", NOON)), Ok(()));
    }
}
