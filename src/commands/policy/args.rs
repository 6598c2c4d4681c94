//! Command line of `pgpassport policy`.

use std::net::IpAddr;
use std::path::Path;

use clap::Args;

use super::{
    IdentityProvider, PlanError, PlanFormat, PlanOptions, PlanPart, PolicyPlan, SourceRestriction, render,
};
use crate::config::Config;
use crate::names::DbUser;

/// Arguments of `pgpassport policy`.
#[derive(Clone, Debug, Default, Args)]
pub struct PolicyArgs {
    /// Print the setup of this cluster [default: all clusters].
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Print the setup for people of this issuer [default: all issuers].
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Permit use of the role from this address or network only (aws:SourceIp); may be repeated.
    #[arg(long, value_name = "CIDR", value_parser = network, conflicts_with = "source_vpce")]
    source_ip: Vec<String>,
    /// Permit use of the role through this VPC endpoint of STS only (aws:SourceVpce); may be repeated.
    #[arg(long, value_name = "VPCE_ID", value_parser = vpc_endpoint)]
    source_vpce: Vec<String>,
    /// Limit the role to the token's session tag "dbuser", even if cluster.pin does not.
    #[arg(long)]
    session_tag: bool,
    /// Audience that STS compares: the token's "azp" if it has one [default: issuer.audience]. With several issuers,
    /// ISSUER=VALUE. May be repeated.
    #[arg(long, value_name = "VALUE")]
    audience: Vec<String>,
    /// Create this database user; may be repeated [default: alice, as an example].
    #[arg(long, value_name = "NAME", value_parser = user)]
    user: Vec<DbUser>,
    /// Print the claim recipe of this identity provider [default: guessed from the issuer's URL].
    #[arg(long, value_enum)]
    idp: Option<IdentityProvider>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: PlanFormat,
    /// Print only this part. A trust or permission policy is bare JSON; with several roles it is one object with a member
    /// for each role's ARN.
    #[arg(long, value_enum, value_name = "PART", conflicts_with = "format")]
    only: Option<PlanPart>,
}

impl PolicyArgs {
    /// The output for `config`, which was read from `file`.
    pub fn print(self, file: &Path, config: &Config) -> Result<String, PlanError> {
        let source = match (self.source_ip.is_empty(), self.source_vpce.is_empty()) {
            (true, true) => SourceRestriction::Anywhere,
            (false, _) => SourceRestriction::Ip(self.source_ip),
            (true, false) => SourceRestriction::Vpce(self.source_vpce),
        };
        let options = PlanOptions {
            cluster: self.cluster,
            issuer: self.issuer,
            source,
            session_tag: self.session_tag,
            audiences: self.audience,
            users: self.user,
            idp: self.idp,
        };
        render(&PolicyPlan::new(config, &options)?, file, self.format, self.only)
    }
}

fn network(text: &str) -> Result<String, String> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let longest = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => {
            return Err("write an address or a network, as in 198.51.100.7 or 198.51.100.0/24".to_owned());
        }
    };
    let good = |length: &str| length.parse::<u8>().is_ok_and(|bits| bits <= longest);
    if length.is_none_or(good) {
        return Ok(text.to_owned());
    }
    Err(format!("the length of the network's prefix is 0 to {longest}"))
}

fn vpc_endpoint(text: &str) -> Result<String, String> {
    let id = text.strip_prefix("vpce-").unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("write the endpoint's id, as in vpce-0123456789abcdef0".to_owned());
    }
    Ok(text.to_owned())
}

fn user(text: &str) -> Result<DbUser, String> {
    DbUser::parse(text).map_err(|error| error.to_string())
}
