//! Everything wired together: the one call that most tests begin with.

use crate::certs::ServerCert;
use crate::policy::{PolicyTemplate, PolicyValues};
use crate::{
    Ca, CredentialStore, EmulatorError, GateOptions, IamRole, Issuer, IssuerOptions, LoginGate, Mysql,
    MysqlEngine, MysqlOptions, OidcProvider, Postgres, PostgresOptions, SettableClock, Sts, StsOptions,
    names,
};

/// The part that tests share: authority, gate and `PostgreSQL`. Clones share it, also in a static.
#[derive(Clone)]
pub struct CloudDatabase {
    /// Signs the server's certificate.
    pub ca: Ca,
    /// Decides logins.
    pub gate: LoginGate,
    /// The server.
    pub postgres: Postgres,
}

/// Options of a [`CloudDatabase`].
#[derive(Clone)]
pub struct DatabaseOptions {
    /// The gate's options; its endpoints also give the names in the server's certificate.
    pub gate: GateOptions,
    /// Changes the server's options, for example its users.
    pub change: fn(&mut PostgresOptions),
}

impl Default for DatabaseOptions {
    fn default() -> Self {
        Self { gate: GateOptions::default(), change: |_| {} }
    }
}

impl CloudDatabase {
    /// Starts gate and server. Blocks for about a second.
    pub fn start(options: DatabaseOptions) -> Result<Self, EmulatorError> {
        let ca = Ca::new()?;
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        hosts
            .extend(options.gate.endpoints.iter().filter_map(|one| Some(one.rsplit_once(':')?.0.to_owned())));
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let cert: ServerCert = ca.server(&hosts)?;
        let gate = LoginGate::start(options.gate)?;
        let mut server = PostgresOptions::new(gate.addr(), Some(cert));
        (options.change)(&mut server);
        Ok(Self { ca, gate, postgres: Postgres::start(&server)? })
    }
}

/// Authority, gate and a server that speaks MySQL's protocol. Clones share it, also in a static.
#[derive(Clone)]
pub struct CloudMysql {
    /// Signs the server's certificate.
    pub ca: Ca,
    /// Decides logins.
    pub gate: LoginGate,
    /// The server.
    pub server: Mysql,
}

impl CloudMysql {
    /// Starts a gate for the MySQL-compatible cluster of [`names`] and a server. Blocks for some seconds.
    pub fn start(engine: MysqlEngine, change: fn(&mut MysqlOptions)) -> Result<Self, EmulatorError> {
        Self::start_with(CredentialStore::new(), engine, change)
    }

    /// The same with a gate that knows the credentials in `store`.
    pub fn start_with(
        store: CredentialStore,
        engine: MysqlEngine,
        change: fn(&mut MysqlOptions),
    ) -> Result<Self, EmulatorError> {
        let ca = Ca::new()?;
        let cert = ca.server(&["localhost", "127.0.0.1", names::MYSQL_ENDPOINT_HOST])?;
        let gate = LoginGate::start(GateOptions {
            resource_id: names::MYSQL_RESOURCE_ID.to_owned(),
            endpoints: vec![names::MYSQL_ENDPOINT.to_owned()],
            store,
            ..GateOptions::default()
        })?;
        let mut options = MysqlOptions::new(engine, gate.clone(), Some(cert));
        change(&mut options);
        Ok(Self { ca, gate, server: Mysql::start(&options)? })
    }
}

/// An issuer and an STS that trusts it, with one role.
#[derive(Clone)]
pub struct Cloud {
    /// The issuer.
    pub issuer: Issuer,
    /// The STS.
    pub sts: Sts,
    /// Values in the policies; use it to put other policies on the role.
    pub values: PolicyValues,
    /// The clock that issuer and STS share.
    pub clock: SettableClock,
}

/// Options of a [`Cloud`].
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// The issuer's options.
    pub issuer: IssuerOptions,
    /// The role's trust policy.
    pub trust: PolicyTemplate,
    /// The role's permission policy.
    pub permission: PolicyTemplate,
    /// The account.
    pub account: String,
    /// The Region of the database.
    pub region: String,
    /// The resource id of the database.
    pub resource_id: String,
    /// Listening address of STS.
    pub sts_bind: std::net::SocketAddr,
    /// Store of the credentials, shared with the gate.
    pub store: CredentialStore,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self {
            issuer: IssuerOptions::default(),
            trust: PolicyTemplate::Trust,
            permission: PolicyTemplate::Permission,
            account: names::ACCOUNT.to_owned(),
            region: names::REGION.to_owned(),
            resource_id: names::RESOURCE_ID.to_owned(),
            sts_bind: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            store: CredentialStore::new(),
        }
    }
}

impl Cloud {
    /// An issuer and an STS whose credentials the database's gate knows.
    pub fn on(database: &CloudDatabase) -> Result<Self, EmulatorError> {
        Self::start(CloudOptions { store: database.gate.store().clone(), ..CloudOptions::default() })
    }

    /// An issuer and an STS whose credentials the gate of `database` knows, and whose role may log in there.
    pub fn on_mysql(database: &CloudMysql) -> Result<Self, EmulatorError> {
        let resource_id = names::MYSQL_RESOURCE_ID.to_owned();
        let store = database.gate.store().clone();
        Self::start(CloudOptions { resource_id, store, ..CloudOptions::default() })
    }

    /// Starts both.
    pub fn start(options: CloudOptions) -> Result<Self, EmulatorError> {
        let clock = options.issuer.clock.clone();
        let audience = options.issuer.audience.clone();
        let issuer = Issuer::start(options.issuer)?;
        let values = PolicyValues {
            account: options.account.clone(),
            region: options.region,
            resource_id: options.resource_id,
            audience: audience.clone(),
            issuer_url: issuer.url(),
        };
        let role = role_of(&values, options.trust, options.permission);
        let local = issuer.page_url(crate::IssuerPage::Discovery);
        let local = local.strip_suffix(crate::IssuerPage::Discovery.path()).map(str::to_owned);
        let provider = OidcProvider { url: issuer.url(), audiences: vec![audience], fetch_url: local };
        let sts = Sts::start(StsOptions {
            bind: options.sts_bind,
            account: options.account,
            store: options.store,
            clock: clock.clone(),
            roles: vec![role],
            providers: vec![provider],
            ..StsOptions::default()
        })?;
        Ok(Self { issuer, sts, values, clock })
    }

    /// Adds the role [`names::MYSQL_ROLE_ARN`], which may log in to the MySQL-compatible cluster.
    pub fn add_mysql_role(&self) -> Result<(), EmulatorError> {
        let resource_id = names::MYSQL_RESOURCE_ID.to_owned();
        let values = PolicyValues { resource_id, ..self.values.clone() };
        let mut role = role_of(&values, PolicyTemplate::Trust, PolicyTemplate::Permission);
        names::MYSQL_ROLE_ARN.clone_into(&mut role.arn);
        self.sts.put_role(&role)
    }

    /// Puts other policies on the role; sessions that exist follow the new permission policy.
    pub fn set_policies(
        &self,
        trust: PolicyTemplate,
        permission: PolicyTemplate,
    ) -> Result<(), EmulatorError> {
        self.sts.put_role(&role_of(&self.values, trust, permission))
    }

    /// The role with its present names and these policies, to change and give to [`Sts::put_role`].
    pub fn role(&self, trust: PolicyTemplate, permission: PolicyTemplate) -> IamRole {
        role_of(&self.values, trust, permission)
    }
}

fn role_of(values: &PolicyValues, trust: PolicyTemplate, permission: PolicyTemplate) -> IamRole {
    IamRole {
        arn: format!("arn:aws:iam::{}:role/{}", values.account, names::ROLE_NAME),
        trust_policy: values.fill(trust),
        permission_policy: values.fill(permission),
        max_session_duration: 43_200,
    }
}
