//! Instructions per identity provider for writing the database user into tokens.

mod workloads;

use clap::ValueEnum;
use url::Url;

use crate::names::Issuer;
use crate::names::aws_claims::FLAT_USER_TAG;

/// An identity provider product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IdentityProvider {
    /// Okta, a custom authorization server.
    Okta,
    /// Microsoft Entra ID.
    Entra,
    /// Keycloak.
    Keycloak,
    /// Auth0.
    Auth0,
    /// Google.
    Google,
    /// Amazon Cognito user pools.
    Cognito,
    /// Service accounts of a Kubernetes cluster, Amazon EKS among them.
    Kubernetes,
    /// Jobs of GitHub Actions.
    Github,
    /// Jobs of GitLab CI.
    Gitlab,
    /// Any other.
    Other,
}

/// Instructions for one issuer.
#[derive(Clone, Debug)]
pub struct IdpRecipe {
    /// The operator's name for the issuer.
    pub issuer: String,
    /// Name of the product.
    pub idp: &'static str,
    /// Page with the long version, below `docs/idp`.
    pub page: Option<&'static str>,
    /// Instructions, in order.
    pub steps: Vec<String>,
    /// Configuration to paste.
    pub snippet: Option<String>,
}

impl IdentityProvider {
    /// Guesses the product from the issuer's URL.
    pub fn of(issuer: &Issuer) -> Self {
        let Ok(url) = Url::parse(issuer.as_str()) else { return Self::Other };
        let host = url.host_str().unwrap_or_default();
        let at = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
        if at("okta.com") || at("oktapreview.com") || at("okta-emea.com") {
            Self::Okta
        } else if at("login.microsoftonline.com") || at("sts.windows.net") || at("login.microsoftonline.us") {
            Self::Entra
        } else if at("auth0.com") {
            Self::Auth0
        } else if at("accounts.google.com") {
            Self::Google
        } else if host.starts_with("cognito-idp.") {
            Self::Cognito
        } else if (host.starts_with("oidc.eks.") && at("amazonaws.com"))
            || at("oic.prod-aks.azure.com")
            || host == "container.googleapis.com"
            || host.starts_with("kubernetes.default.svc")
        {
            Self::Kubernetes
        } else if at("token.actions.githubusercontent.com") {
            Self::Github
        } else if host == "gitlab.com" {
            Self::Gitlab
        } else if url.path().contains("/realms/") {
            Self::Keycloak
        } else {
            Self::Other
        }
    }

    /// Name of the product.
    pub fn label(self) -> &'static str {
        match self {
            Self::Okta => "Okta",
            Self::Entra => "Microsoft Entra ID",
            Self::Keycloak => "Keycloak",
            Self::Auth0 => "Auth0",
            Self::Google => "Google",
            Self::Cognito => "Amazon Cognito",
            Self::Kubernetes => "Kubernetes",
            Self::Github => "GitHub Actions",
            Self::Gitlab => "GitLab CI",
            Self::Other => "this identity provider",
        }
    }

    /// True if its tokens usually contain `azp`.
    pub fn sends_azp(self) -> bool {
        matches!(self, Self::Entra | Self::Keycloak | Self::Auth0 | Self::Google)
    }

    fn page(self) -> Option<&'static str> {
        match self {
            Self::Okta => Some("okta.md"),
            Self::Entra => Some("entra.md"),
            Self::Keycloak => Some("keycloak.md"),
            Self::Auth0 => Some("auth0.md"),
            Self::Google => Some("google.md"),
            Self::Cognito => Some("cognito.md"),
            Self::Kubernetes => Some("kubernetes.md"),
            Self::Github => Some("github.md"),
            Self::Gitlab => Some("gitlab.md"),
            Self::Other => None,
        }
    }

    /// Instructions for tokens with `claims`, and with the tag `dbuser` if `tag` is set.
    pub fn recipe(self, issuer: &str, claims: &[String], tag: bool) -> IdpRecipe {
        let (mut steps, snippet) = match self {
            Self::Okta => okta(claims, tag),
            Self::Entra => entra(claims, tag),
            Self::Keycloak => keycloak(claims, tag),
            Self::Auth0 => auth0(claims, tag),
            Self::Google => google(tag),
            Self::Cognito => cognito(claims, tag),
            Self::Kubernetes => workloads::kubernetes(tag),
            Self::Github => workloads::github(tag),
            Self::Gitlab => workloads::gitlab(tag),
            Self::Other => other(claims, tag),
        };
        let writes_tags = !matches!(self, Self::Google | Self::Kubernetes | Self::Github | Self::Gitlab);
        if tag && writes_tags {
            steps.push(format!(
                "The tag must be the database user byte for byte, so fill it from the same attribute as the claim {}.",
                named(claims)
            ));
        }
        IdpRecipe { issuer: issuer.to_owned(), idp: self.label(), page: self.page(), steps, snippet }
    }
}

type Advice = (Vec<String>, Option<String>);

fn named(claims: &[String]) -> String {
    claims.iter().map(|claim| format!("\"{claim}\"")).collect::<Vec<_>>().join(", ")
}

/// Claims that no provider writes by default.
fn extra(claims: &[String]) -> Vec<&str> {
    claims.iter().map(String::as_str).filter(|claim| *claim != "sub").collect()
}

fn okta(claims: &[String], tag: bool) -> Advice {
    let mut steps = vec![
        "Use a custom authorization server (Security, API, Authorization Servers): tokens of the org server cannot be \
         verified by anyone but Okta."
            .to_owned(),
        "\"sub\" of its access tokens is the user's login.".to_owned(),
    ];
    for claim in extra(claims) {
        steps.push(format!(
            "Claims, Add Claim: name {claim}, include in Access Token, Always, value type Expression, value for example \
             user.login."
        ));
    }
    if tag {
        steps.push(format!(
            "Claims, Add Claim: name {FLAT_USER_TAG}, include in Access Token, Always, value type Expression, with this value:"
        ));
    }
    (steps, tag.then(|| "user.login".to_owned()))
}

fn entra(claims: &[String], tag: bool) -> Advice {
    let mut steps = vec![
        "Expose an API in an app registration and ask for its scope: tokens for Microsoft Graph cannot be verified by \
         anyone else."
            .to_owned(),
        "\"sub\" is another one in each application, and \"preferred_username\", \"upn\" and \"email\" can change and be \
         given to somebody else: use \"oid\" for the database user (cluster.user.claim)."
            .to_owned(),
    ];
    if let Some(first) =
        extra(claims).into_iter().find(|claim| !["oid", "preferred_username"].contains(claim))
    {
        steps.push(format!(
            "Token configuration, Add optional claim, Access: {first} (and any other you use)."
        ));
    }
    if tag {
        steps.push(
            "Entra writes no objects, so the tag is flattened. Enterprise application, Single sign-on, Custom claims \
             provider: a function that answers the event onTokenIssuanceStart with this, the user put in:"
                .to_owned(),
        );
    }
    let snippet = format!(
        r#"{{
  "data": {{
    "@odata.type": "microsoft.graph.onTokenIssuanceStartResponseData",
    "actions": [{{
      "@odata.type": "microsoft.graph.tokenIssuanceStart.provideClaimsForToken",
      "claims": {{ "{FLAT_USER_TAG}": "alice" }}
    }}]
  }}
}}"#
    );
    (steps, tag.then_some(snippet))
}

fn keycloak(claims: &[String], tag: bool) -> Advice {
    let mut steps = vec![
        "Client scopes, your client's dedicated scope, Add mapper, Audience: without it \"aud\" holds only \"account\". \
         Note that AWS compares \"azp\", which is the client's id, always."
            .to_owned(),
    ];
    let mut mappers = Vec::new();
    for claim in extra(claims) {
        let attribute = if claim == "preferred_username" { "username" } else { claim };
        if ["preferred_username", "email"].contains(&claim) {
            steps.push(format!("\"{claim}\" comes with the default scopes profile and email."));
        } else {
            mappers.push(mapper(claim, attribute, &claim.replace('.', "\\\\.")));
        }
    }
    if tag {
        let name = FLAT_USER_TAG.replace('.', "\\\\.");
        mappers.push(mapper("aws-tag-dbuser", "username", &name));
    }
    if mappers.is_empty() {
        return (steps, None);
    }
    steps.push(
        "Add these mappers, with a JSON file each and kcadm.sh create clients/<id>/protocol-mappers/models -r <realm> \
         -f mapper.json, or by hand. The backslashes keep Keycloak from making objects at the dots:"
            .to_owned(),
    );
    (steps, Some(mappers.join("\n")))
}

fn mapper(name: &str, attribute: &str, claim: &str) -> String {
    format!(
        r#"{{
  "name": "{name}",
  "protocol": "openid-connect",
  "protocolMapper": "oidc-usermodel-attribute-mapper",
  "config": {{
    "user.attribute": "{attribute}",
    "claim.name": "{claim}",
    "jsonType.label": "String",
    "access.token.claim": "true",
    "id.token.claim": "true"
  }}
}}"#
    )
}

fn auth0(claims: &[String], tag: bool) -> Advice {
    let mut steps = vec![
        "Applications, APIs: make an API and let clients ask for its identifier as audience; without one, access tokens \
         are opaque."
            .to_owned(),
        "Its signing algorithm must be RS256, not HS256.".to_owned(),
    ];
    let mut lines = vec!["exports.onExecutePostLogin = async (event, api) => {".to_owned()];
    for claim in extra(claims) {
        lines.push(format!("  api.accessToken.setCustomClaim('{claim}', event.user.app_metadata.db_user);"));
    }
    if tag {
        lines.push("  api.accessToken.setCustomClaim('https://aws.amazon.com/tags', {".to_owned());
        lines.push("    principal_tags: { dbuser: [event.user.app_metadata.db_user] },".to_owned());
        lines.push("  });".to_owned());
    }
    if lines.len() == 1 {
        steps.push(
            "\"sub\" is like auth0|123, which makes an unusual database user; consider another claim."
                .to_owned(),
        );
        return (steps, None);
    }
    steps.push(
        "A custom claim has to be a URL of yours: Auth0 leaves others out of access tokens, some standard names \
         excepted."
            .to_owned(),
    );
    steps.push(
        "Actions, Library, Create Action for Login / Post Login, deploy it and drag it into the flow:"
            .to_owned(),
    );
    lines.push("};".to_owned());
    (steps, Some(lines.join("\n")))
}

fn google(tag: bool) -> Advice {
    let mut steps = vec![
        "Use the ID token; Google's access tokens are opaque. There is nothing to register in IAM either: it knows \
         accounts.google.com."
            .to_owned(),
        "Take the database user from \"email\" (cluster.user.claim) with a regex for your own domain, and require \
         { claim = \"email_verified\", any = [\"true\"] }; \"sub\" is a number."
            .to_owned(),
    ];
    if tag {
        steps.push(
            "Google puts no claims of yours into its tokens, so there can be no session tag: use \
             pin = \"session-policy\" with --source-ip or --source-vpce."
                .to_owned(),
        );
    }
    (steps, None)
}

fn cognito(claims: &[String], tag: bool) -> Advice {
    let mut steps = vec![
        "Use the ID token: its \"aud\" is the client's id. Access tokens have no \"aud\", and STS needs one."
            .to_owned(),
    ];
    if let [first, ..] = extra(claims)[..]
        && first != "cognito:username"
    {
        steps.push(format!("Let the trigger below write \"{first}\" too, or use \"cognito:username\"."));
    }
    if tag {
        steps.push(
            "User pool, Extensions, Lambda triggers, Pre token generation, trigger event version 2 (needs the \
             Essentials plan):"
                .to_owned(),
        );
    }
    let snippet = "export const handler = async (event) => {
  const claims = {
    'https://aws.amazon.com/tags': { principal_tags: { dbuser: [event.userName] } },
  };
  event.response = {
    claimsAndScopeOverrideDetails: {
      idTokenGeneration: { claimsToAddOrOverride: claims },
    },
  };
  return event;
};";
    (steps, tag.then(|| snippet.to_owned()))
}

fn other(claims: &[String], tag: bool) -> Advice {
    let mut steps = vec![format!(
        "Let tokens carry {} as a text, \"aud\" with a configured audience, \"iat\" and \"exp\" as whole numbers, signed \
         with RS256, RS384, RS512, ES256, ES384 or ES512.",
        named(claims)
    )];
    if tag {
        steps.push("And the session tag, in this form, or flattened as below it:".to_owned());
    }
    let snippet = format!(
        "{{ \"https://aws.amazon.com/tags\": {{ \"principal_tags\": {{ \"dbuser\": [\"alice\"] }} }} }}\n\
         {{ \"{FLAT_USER_TAG}\": \"alice\" }}"
    );
    (steps, tag.then_some(snippet))
}
