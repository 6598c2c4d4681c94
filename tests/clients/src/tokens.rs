//! The tokens that clients use as their password: changes when another length matters.

use aws_emulator::{Cloud, Issuer, KeyChoice, RoleSession, http, names};
use serde_json::{Value, json};

use crate::database::MatrixDatabase;
use crate::world::USER;

/// Lengths of tokens: those of identity providers, the sizes around which clients have limits (odbc.ini, a service file,
/// a terminal's line, an option file of MariaDB, a Go driver), and the longest that the proxy takes.
const TOKENS: [usize; 12] = [800, 990, 991, 1_012, 1_013, 3_000, 4_084, 4_091, 4_095, 4_096, 16_000, 20_000];

/// Usual length of a session token of STS.
const USUAL: usize = 1_100;

/// Attempts to reach a length with a random part of a token.
const ATTEMPTS: usize = 500;

/// Tokens by their name in the contract.
pub(crate) type Tokens = Vec<(String, String)>;

/// Tokens of the issuer, for the proxy.
pub(crate) fn of_issuer(cloud: &Cloud) -> Result<Tokens, String> {
    let mut tokens = Tokens::new();
    for size in TOKENS {
        tokens.push((format!("JWT_{size}"), jwt(&cloud.issuer, size)?));
    }
    let now = cloud.clock.unix();
    let claims = cloud.issuer.default_claims(USER);
    let expired = claims.set("iat", now - 1_200).set("nbf", now - 1_200).set("exp", now - 600);
    tokens.push(("JWT_EXPIRED".to_owned(), cloud.issuer.mint(expired)));
    Ok(tokens)
}

/// IAM tokens, for the server itself.
pub(crate) fn of_iam(cloud: &Cloud, database: &MatrixDatabase) -> Result<Tokens, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let jwt = cloud.issuer.token(USER);
    let now = cloud.clock.unix();
    let mut tokens = Tokens::new();
    for size in TOKENS {
        let mut length = size - 400;
        let fits = (0..ATTEMPTS).find_map(|_| {
            cloud.sts.set_session_token_length(length);
            let session = runtime.block_on(assume(cloud, &jwt))?;
            let token = database.iam_token(&session, now);
            // Characters that URLs write in three digits are in it by chance.
            length = (length + size).saturating_sub(token.len()).max(1);
            (token.len() == size).then_some(token)
        });
        let token = fits.ok_or_else(|| format!("an IAM token cannot be {size} bytes long"))?;
        tokens.push((format!("JWT_{size}"), token));
    }
    cloud.sts.set_session_token_length(USUAL);
    let session = runtime.block_on(assume(cloud, &jwt)).ok_or("STS gives no credentials")?;
    tokens.push(("JWT_EXPIRED".to_owned(), database.iam_token(&session, now - 1_200)));
    Ok(tokens)
}

/// Credentials of the role, for the user.
async fn assume(cloud: &Cloud, jwt: &str) -> Option<RoleSession> {
    let fields = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", names::ROLE_ARN),
        ("RoleSessionName", USER),
        ("WebIdentityToken", jwt),
    ];
    let (_, body) = http::post_form(&format!("{}/", cloud.sts.url()), &fields).await?;
    let key = body.split_once("<AccessKeyId>")?.1.split_once('<')?.0;
    cloud.sts.store().get(key)
}

/// A token of exactly `size` bytes. No part in base64 has a length of 4n + 1, so the header is lengthened too.
fn jwt(issuer: &Issuer, size: usize) -> Result<String, String> {
    let kid = issuer.kid(&KeyChoice::Rs256);
    let sign = |header_pad: usize, claim_pad: usize| {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": kid, "pad": "x".repeat(header_pad) });
        let claims = Value::from(issuer.default_claims(USER).padded(claim_pad));
        issuer.sign(&header.to_string(), claims.to_string().as_bytes(), &KeyChoice::Rs256)
    };
    for header_pad in 0..3 {
        let missing = size.saturating_sub(sign(header_pad, 0).len()) * 3 / 4;
        for claim_pad in missing.saturating_sub(2)..=missing + 2 {
            let token = sign(header_pad, claim_pad);
            if token.len() == size {
                return Ok(token);
            }
        }
    }
    Err(format!("a token cannot be {size} bytes long"))
}
