//! The parts of a plan that no stand-in can try: partitions, providers, notes, recipes.

use std::path::Path;

use super::*;

const REFERENCE: &str = include_str!("../../../proxy.toml");

fn plan_of(toml: &str, options: &PlanOptions) -> PolicyPlan {
    let config = Config::from_toml(toml, "proxy.toml").unwrap_or_else(|problems| panic!("{problems}"));
    PolicyPlan::new(&config, options).unwrap()
}

fn reference(changes: &[(&str, &str)], options: &PlanOptions) -> PolicyPlan {
    let mut toml = REFERENCE.to_owned();
    for (old, new) in changes {
        assert!(toml.contains(old), "{old}");
        toml = toml.replace(old, new);
    }
    plan_of(&toml, options)
}

#[test]
fn every_arn_is_of_the_roles_partition() {
    for (partition, region, host) in [
        ("aws-cn", "cn-north-1", "orders.cluster-c1a2b3c4d5e6.rds.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "orders.cluster-c1a2b3c4d5e6.us-gov-west-1.rds.amazonaws.com"),
    ] {
        let plan = reference(
            &[
                ("arn:aws:iam", &format!("arn:{partition}:iam")),
                ("orders.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com", host),
                ("region = \"eu-central-1\"", &format!("region = \"{region}\"")),
            ],
            &PlanOptions::default(),
        );
        let provider =
            format!("arn:{partition}:iam::123456789012:oidc-provider/acme.okta.com/oauth2/default");
        assert_eq!(plan.providers[0].arn, provider);
        assert!(plan.roles[0].trust.json().contains(&provider));
        let resource = format!("arn:{partition}:rds-db:{region}:123456789012:dbuser:");
        assert!(plan.roles[0].permission.json().contains(&resource), "{}", plan.roles[0].permission.json());
    }
}

#[test]
fn dsql_has_an_action_and_sql_of_its_own() {
    let plan = reference(
        &[
            ("orders.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com", "abcdef.dsql.eu-central-1.on.aws"),
            ("/etc/pgpassport/rds-global-bundle.pem", "system"),
        ],
        &PlanOptions::default(),
    );
    let permission = plan.roles[0].permission.json();
    let cluster = "arn:aws:dsql:eu-central-1:123456789012:cluster/abcdef";
    assert!(permission.contains("\"dsql:DbConnect\"") && permission.contains(cluster), "{permission}");
    assert!(!permission.contains("rds-db"), "{permission}");
    assert_eq!(
        plan.databases[0].statements,
        [
            "CREATE ROLE \"alice\" WITH LOGIN;",
            "AWS IAM GRANT \"alice\" TO 'arn:aws:iam::123456789012:role/pgpassport-orders';"
        ]
    );
}

#[test]
fn a_slash_at_the_end_of_the_issuer_stays() {
    let plan = reference(
        &[("https://acme.okta.com/oauth2/default", "https://acme.auth0.com/")],
        &PlanOptions::default(),
    );
    assert!(plan.providers[0].arn.ends_with(":oidc-provider/acme.auth0.com/"), "{}", plan.providers[0].arn);
    assert!(plan.roles[0].trust.json().contains("\"acme.auth0.com/:aud\""));
    let notes = plan.providers[0].notes.join(" ");
    assert!(notes.contains("slash") && notes.contains("azp"), "{notes}");
}

#[test]
fn google_is_there_already() {
    let plan = reference(
        &[("https://acme.okta.com/oauth2/default", "https://accounts.google.com")],
        &PlanOptions::default(),
    );
    assert!(plan.providers[0].built_in);
    assert!(plan.roles[0].trust.json().contains("\"Federated\": \"accounts.google.com\""));
}

#[test]
fn a_policy_without_a_resource_id_lets_nobody_in_and_says_so() {
    let plan = reference(&[], &PlanOptions::default());
    assert!(plan.roles[0].permission.json().contains(":dbuser:RESOURCE-ID/*"));
    assert!(plan.roles[0].notes[0].contains("RESOURCE-ID") && plan.roles[0].notes[0].contains("orders"));
    let host = "orders.cluster-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com";
    for (other, command) in [
        (host, "describe-db-clusters"),
        ("orders.c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com", "describe-db-instances"),
        ("orders.proxy-c1a2b3c4d5e6.eu-central-1.rds.amazonaws.com", "describe-db-proxies"),
    ] {
        let note = reference(&[(host, other)], &PlanOptions::default()).roles[0].notes[0].clone();
        assert!(note.contains(command), "{note}");
    }
    let dsql = reference(&[(host, "abcdef.dsql.eu-central-1.on.aws")], &PlanOptions::default());
    assert!(!dsql.roles[0].notes.join(" ").contains("RESOURCE-ID"));
}

#[test]
fn the_permissive_form_says_what_it_permits_and_the_others_do_not() {
    let wide = |options: &PlanOptions| {
        let notes = reference(&[], options).roles[0].notes.join(" ");
        notes.contains("bypass the proxy")
    };
    assert!(wide(&PlanOptions::default()));
    assert!(!wide(&PlanOptions { session_tag: true, ..PlanOptions::default() }));
    assert!(!wide(&PlanOptions {
        source: SourceRestriction::Ip(vec!["10.0.0.1".into()]),
        ..PlanOptions::default()
    }));
}

#[test]
fn one_role_for_several_issuers_and_clusters_has_them_all() {
    let several = include_str!("../../../tests/config/valid/several_clusters.toml");
    let config = Config::from_toml(several, "x.toml").unwrap();
    let all = PolicyPlan::new(&config, &PlanOptions::default()).unwrap();
    assert_eq!(all.databases.len(), config.clusters.len());
    let name = config.clusters[1].name.clone();
    let one =
        PolicyPlan::new(&config, &PlanOptions { cluster: Some(name.clone()), ..PlanOptions::default() })
            .unwrap();
    assert_eq!(one.databases.len(), 1);
    assert!(one.roles.iter().all(|role| role.clusters == [name.clone()]));
    let none =
        PolicyPlan::new(&config, &PlanOptions { cluster: Some("nowhere".into()), ..PlanOptions::default() });
    let text = none.unwrap_err().to_string();
    assert!(text.contains("nowhere") && text.contains(&name), "{text}");

    let issuers = include_str!("../../../tests/config/valid/several_issuers.toml");
    let plan =
        plan_of(issuers, &PlanOptions { audiences: vec!["keycloak=x".into()], ..PlanOptions::default() });
    let trust: serde_json::Value = serde_json::from_str(&plan.roles[0].trust.json()).unwrap();
    let audience = |at: usize, key: &str| trust["Statement"][at]["Condition"]["StringEquals"][key].clone();
    assert_eq!(audience(0, "accounts.google.com:aud"), serde_json::json!(["a", "b"]));
    assert_eq!(audience(1, "localhost:8080/realms/acme:aud"), "x");
}

#[test]
fn several_roles_are_documents_by_arn_and_one_issuer_has_one() {
    let toml = REFERENCE.replace(
        "role_arn = \"arn:aws:iam::123456789012:role/pgpassport-orders\"",
        "role_arn = { okta = \"arn:aws:iam::123456789012:role/a\", entra = \"arn:aws:iam::210987654321:role/b\" }\n",
    );
    let entra = "[[issuer]]\nname = \"entra\"\nurl = \"https://login.microsoftonline.com/t/v2.0\"\naudience = \"x\"\n";
    let plan = plan_of(&format!("{toml}\n{entra}"), &PlanOptions::default());
    assert_eq!(plan.providers.len(), 2);
    assert_eq!(
        [plan.providers[0].account.as_str(), &plan.providers[1].account],
        ["123456789012", "210987654321"]
    );
    let trust = |options: &PlanOptions| -> serde_json::Value {
        let plan = plan_of(&format!("{toml}\n{entra}"), options);
        let text = render(&plan, Path::new("proxy.toml"), PlanFormat::Text, Some(PlanPart::Trust)).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let cluster = || PlanOptions { cluster: Some("orders".to_owned()), ..PlanOptions::default() };
    let both = trust(&cluster());
    for (arn, issuer) in [
        ("arn:aws:iam::123456789012:role/a", "okta.com"),
        ("arn:aws:iam::210987654321:role/b", "microsoftonline"),
    ] {
        assert!(both[arn]["Statement"][0].to_string().contains(issuer), "{both}");
    }
    assert_eq!(both.as_object().unwrap().len(), 2);
    let one = trust(&PlanOptions { issuer: Some("entra".to_owned()), ..cluster() });
    assert_eq!(one, both["arn:aws:iam::210987654321:role/b"]);
    let nobody = PlanOptions { issuer: Some("github".to_owned()), ..cluster() };
    let config = Config::from_toml(&format!("{toml}\n{entra}"), "proxy.toml").unwrap();
    let error = PolicyPlan::new(&config, &nobody).unwrap_err().to_string();
    assert!(error.contains("github") && error.contains("okta, entra"), "{error}");
    let stack = render(&plan, Path::new("proxy.toml"), PlanFormat::CloudFormation, None).unwrap_err();
    let stack = stack.to_string();
    assert!(stack.contains("123456789012 and 210987654321") && stack.contains("--issuer"), "{stack}");
}

#[test]
fn long_sessions_are_asked_of_the_role() {
    let plan = reference(&[("# sts_duration = \"15m\"", "sts_duration = \"2h\"")], &PlanOptions::default());
    assert_eq!(plan.roles[0].max_session_seconds, Some(7_200));
    for format in [
        PlanFormat::Text,
        PlanFormat::Json,
        PlanFormat::Cli,
        PlanFormat::Terraform,
        PlanFormat::CloudFormation,
    ] {
        assert!(render(&plan, Path::new("proxy.toml"), format, None).unwrap().contains("7200"), "{format:?}");
    }
}

#[test]
fn the_json_form_is_one_object_with_the_documents() {
    let plan = reference(&[], &PlanOptions { session_tag: true, ..PlanOptions::default() });
    let whole: serde_json::Value =
        serde_json::from_str(&render(&plan, Path::new("proxy.toml"), PlanFormat::Json, None).unwrap())
            .unwrap();
    assert_eq!(whole["roles"][0]["trust_policy"]["Statement"].as_array().unwrap().len(), 2);
    assert_eq!(whole["databases"][0]["sql"][1], "GRANT rds_iam TO \"alice\";");
    assert_eq!(whole["claims"][0]["idp"], "Okta");
}

#[test]
fn identity_providers_are_known_by_their_urls() {
    for (url, idp) in [
        ("https://acme.okta.com/oauth2/default", IdentityProvider::Okta),
        ("https://login.microsoftonline.com/t/v2.0", IdentityProvider::Entra),
        ("https://sts.windows.net/t/", IdentityProvider::Entra),
        ("https://sso.acme.com/realms/main", IdentityProvider::Keycloak),
        ("https://acme.eu.auth0.com/", IdentityProvider::Auth0),
        ("https://accounts.google.com", IdentityProvider::Google),
        ("https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_x", IdentityProvider::Cognito),
        ("https://oidc.eks.eu-central-1.amazonaws.com/id/EXAMPLED539D", IdentityProvider::Kubernetes),
        ("https://westeurope.oic.prod-aks.azure.com/t/i/", IdentityProvider::Kubernetes),
        (
            "https://container.googleapis.com/v1/projects/p/locations/l/clusters/c",
            IdentityProvider::Kubernetes,
        ),
        ("https://kubernetes.default.svc.cluster.local", IdentityProvider::Kubernetes),
        ("https://token.actions.githubusercontent.com", IdentityProvider::Github),
        ("https://gitlab.com", IdentityProvider::Gitlab),
        ("https://oidc.eks.evil.example", IdentityProvider::Other),
        ("https://okta.com.evil.example", IdentityProvider::Other),
        ("https://notokta.com", IdentityProvider::Other),
    ] {
        assert_eq!(IdentityProvider::of(&crate::names::Issuer::new(url)), idp, "{url}");
    }
}

#[test]
fn each_recipe_tells_of_the_tag_only_where_it_is_wanted() {
    let claims = ["email".to_owned(), "https://acme.com/db".to_owned()];
    for idp in [
        IdentityProvider::Okta,
        IdentityProvider::Entra,
        IdentityProvider::Keycloak,
        IdentityProvider::Auth0,
        IdentityProvider::Cognito,
        IdentityProvider::Other,
    ] {
        let with = format!("{:?}", idp.recipe("x", &claims, true)).replace(r"\\\\.", ".");
        assert!(with.contains("aws.amazon.com/tags"), "{with}");
        let without = format!("{:?}", idp.recipe("x", &claims, false)).replace(r"\\\\.", ".");
        assert!(!without.contains("aws.amazon.com/tags"), "{without}");
    }
    for idp in [
        IdentityProvider::Google,
        IdentityProvider::Kubernetes,
        IdentityProvider::Github,
        IdentityProvider::Gitlab,
    ] {
        let with = format!("{:?}", idp.recipe("x", &claims, true));
        assert!(with.contains("no session tag") && !with.contains("byte for byte"), "{with}");
        assert!(!format!("{:?}", idp.recipe("x", &claims, false)).contains("session tag"));
    }
}

#[test]
fn each_tenant_is_a_provider_of_its_own() {
    let tenants = ["11111111-2222-3333-4444-555555555555", "99999999-8888-7777-6666-abcdefabcdef"];
    let url = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    let list = format!("url = \"{}\"\ntenants = {tenants:?}", url("{tenantid}"));
    let plan =
        reference(&[("url = \"https://acme.okta.com/oauth2/default\"", &list)], &PlanOptions::default());
    let providers: Vec<_> =
        plan.providers.iter().map(|one| (one.issuer.as_str(), one.url.as_str())).collect();
    let (first, second) = (format!("okta-{}", tenants[0]), format!("okta-{}", tenants[1]));
    assert_eq!(providers, [(&*first, &*url(tenants[0])), (&*second, &*url(tenants[1]))]);
    let trust = plan.roles[0].trust.json();
    for tenant in tenants {
        assert!(trust.contains(&format!("login.microsoftonline.com/{tenant}/v2.0:aud")), "{trust}");
    }
    assert!(!trust.contains("tenantid"), "{trust}");
}

/// The template has a parameter for what the configuration does not say, and keeps IAM's own variables.
#[test]
fn a_cloudformation_template_asks_for_what_is_missing() {
    let options = PlanOptions { session_tag: true, ..PlanOptions::default() };
    let read = |plan: &PolicyPlan| -> serde_json::Value {
        let text = render(plan, Path::new("proxy.toml"), PlanFormat::CloudFormation, None).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let plan = reference(&[], &options);
    let template = read(&plan);
    assert_eq!(template["Parameters"]["ResourceId"]["AllowedPattern"], "(cluster|db|prx)-[A-Za-z0-9]+");
    let role = &template["Resources"]["Role1"];
    assert_eq!(role["DependsOn"][0], "Provider1");
    assert_eq!(role["Properties"]["RoleName"], "pgpassport-orders");
    let policy = &role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"][0]["Resource"]["Fn::Sub"];
    let resource =
        "arn:aws:rds-db:eu-central-1:123456789012:dbuser:${ResourceId}/${!aws:PrincipalTag/dbuser}";
    assert_eq!(policy, resource);
    let trust = serde_json::to_value(&plan.roles[0].trust).unwrap();
    assert_eq!(role["Properties"]["AssumeRolePolicyDocument"], trust);
    let provider = &template["Resources"]["Provider1"]["Properties"];
    assert_eq!(provider["Url"], "https://acme.okta.com/oauth2/default");
    let known = [("# resource_id = ", "resource_id = ")];
    let template = read(&reference(&known, &options));
    assert!(template.get("Parameters").is_none() && !template.to_string().contains("Fn::Sub"), "{template}");
}

/// Clusters whose names differ in signs only have variables of their own.
#[test]
fn each_missing_resource_id_is_asked_for_by_itself() {
    let several = include_str!("../../../tests/config/valid/several_clusters.toml");
    let lacking: String = several
        .lines()
        .filter(|line| !line.starts_with("resource_id"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let plan = plan_of(&lacking, &PlanOptions::default());
    let script = render(&plan, Path::new("proxy.toml"), PlanFormat::Cli, None).unwrap();
    assert!(plan.placeholders.len() > 1, "{:?}", plan.placeholders);
    for (number, one) in plan.placeholders.iter().enumerate() {
        assert!(one.variable.starts_with(&format!("RESOURCE_ID_{}_", number + 1)), "{one:?}");
        let insists =
            format!(": \"${{{}:?set it to the resource id of cluster {}", one.variable, one.cluster);
        let used = format!(":dbuser:'\"${}\"'/", one.variable);
        assert!(script.contains(&insists) && script.contains(&used), "{script}");
    }
}

#[test]
fn the_restricted_policy_is_printed_before_the_open_one() {
    let text = |options: &PlanOptions| {
        render(&reference(&[], options), Path::new("my proxy.toml"), PlanFormat::Text, None).unwrap()
    };
    let open = text(&PlanOptions::default());
    let restricted = open.find("PROXY-ADDRESS\"").unwrap();
    assert!(restricted < open.find("without that restriction").unwrap(), "{open}");
    assert!(open.ends_with("--config 'my proxy.toml' --token-file token.txt\n"), "{open}");
    let closed =
        PlanOptions { source: SourceRestriction::Ip(vec!["10.0.0.1".into()]), ..PlanOptions::default() };
    assert!(!text(&closed).contains("PROXY-ADDRESS"));
}

#[test]
fn mysql_has_sql_of_its_own() {
    let plan = reference(
        &[
            ("\n[listen]\n", "\n[listen]\nprotocol = \"mysql\"\n"),
            ("\nregion = ", "\nengine = \"mysql\"\ndatabases = [\"shop_eu\"]\nregion = "),
        ],
        &PlanOptions { users: vec![DbUser::parse("o'neill").unwrap()], ..PlanOptions::default() },
    );
    assert!(plan.roles[0].permission.json().contains("\"rds-db:connect\""));
    let user = "'o''neill'@'%'";
    let create = format!("{user} IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;");
    let grant = format!("GRANT SELECT ON `shop\\_eu`.* TO {user};");
    let database = &plan.databases[0];
    assert_eq!(database.statements, [format!("CREATE USER {create}"), grant.clone()]);
    assert_eq!(database.repeatable, [format!("CREATE USER IF NOT EXISTS {create}"), grant]);
}

#[test]
fn each_of_several_clusters_has_its_command_to_try() {
    let several = include_str!("../../../tests/config/valid/several_clusters.toml");
    let tries = |toml: &str| -> Vec<String> {
        let plan = plan_of(toml, &PlanOptions::default());
        let text = render(&plan, Path::new("x.toml"), PlanFormat::Text, None).unwrap();
        text.lines().filter(|line| line.contains("pgpassport doctor --config")).map(str::to_owned).collect()
    };
    let printed = tries(several);
    let plan = plan_of(several, &PlanOptions::default());
    assert!(printed.len() > 1 && printed.len() == plan.databases.len(), "{printed:?}");
    for (line, database) in printed.iter().zip(&plan.databases) {
        assert!(line.ends_with(&format!(" --cluster {}", database.cluster)), "{line}");
    }
    assert_eq!(tries(REFERENCE), ["    pgpassport doctor --config x.toml --token-file token.txt"]);
}
