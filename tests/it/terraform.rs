//! Output of `pgpassport policy --format terraform`, read by an independent parser of Terraform's language.

use std::fs;
use std::path::Path;

use hcl::eval::{Context, Evaluate as _};
use hcl::{Block, Body};
use pgpassport::commands::policy::{PlanFormat, PlanOptions, PolicyPlan, SourceRestriction, render};
use pgpassport::config::Config;
use serde_json::{Value, json};

fn plan(file: &str, change: impl FnOnce(String) -> String, builder: &PlanOptions) -> PolicyPlan {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let config = Config::from_toml(&change(fs::read_to_string(&path).unwrap()), &path);
    PolicyPlan::new(&config.unwrap_or_else(|problems| panic!("{problems}")), builder).unwrap()
}

/// All resources of a kind: their names, and what is in them.
fn resources<'f>(file: &'f Body, kind: &str) -> Vec<(&'f str, &'f Block)> {
    let named = |block: &'f Block| match block.labels() {
        [mine, name] if block.identifier() == "resource" && mine.as_str() == kind => {
            Some((name.as_str(), block))
        }
        _ => None,
    };
    file.blocks().filter_map(named).collect()
}

fn expression<'f>(block: &'f Block, name: &str) -> &'f hcl::Expression {
    let attribute = block.body().attributes().find(|attribute| attribute.key() == name);
    attribute.unwrap_or_else(|| panic!("no {name} in {block:?}")).expr()
}

/// Value of an attribute in Terraform, with templates and escapes evaluated.
fn value(block: &Block, name: &str) -> Value {
    let value = expression(block, name).evaluate(&Context::new()).unwrap();
    serde_json::to_value(value).unwrap()
}

fn document(block: &Block, name: &str) -> Value {
    serde_json::from_str(value(block, name).as_str().unwrap()).unwrap()
}

/// The file says what the JSON form says, and no more.
fn says_the_same(plan: &PolicyPlan) {
    let whole: Value =
        serde_json::from_str(&render(plan, Path::new("proxy.toml"), PlanFormat::Json, None).unwrap())
            .unwrap();
    let text = render(plan, Path::new("proxy.toml"), PlanFormat::Terraform, None).unwrap();
    let file: Body = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));

    let registered: Vec<_> = plan.providers.iter().filter(|provider| !provider.built_in).collect();
    let providers = resources(&file, "aws_iam_openid_connect_provider");
    assert_eq!(providers.len(), registered.len());
    for ((_, block), provider) in providers.iter().zip(&registered) {
        assert_eq!(value(block, "url"), *provider.url);
        assert_eq!(value(block, "client_id_list"), json!(provider.audiences));
    }
    let (roles, policies) = (resources(&file, "aws_iam_role"), resources(&file, "aws_iam_role_policy"));
    assert_eq!((roles.len(), policies.len()), (plan.roles.len(), plan.roles.len()));
    for (at, planned) in plan.roles.iter().enumerate() {
        let ((id, role), (_, policy)) = (roles[at], policies[at]);
        let (path, name) = planned.arn.path_and_name();
        assert_eq!(value(role, "name"), name);
        assert!(path == "/" || value(role, "path") == path);
        assert_eq!(document(role, "assume_role_policy"), whole["roles"][at]["trust_policy"]);
        assert_eq!(document(policy, "policy"), whole["roles"][at]["permission_policy"]);
        assert_eq!(expression(policy, "role").to_string(), format!("aws_iam_role.{id}.id"));
    }
    assert_eq!(file.iter().count(), providers.len() + 2 * roles.len());
    for mut names in
        [providers, roles].map(|blocks| blocks.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
    {
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "two resources of one name: {text}");
    }
}

#[test]
fn every_form_parses_and_holds_the_documents_of_the_json_form() {
    let printed = "tests/config/valid/printed_policies.toml";
    let from = |source| PlanOptions { source, ..PlanOptions::default() };
    let awkward = PlanOptions {
        session_tag: true,
        audiences: ["a\"b\\c", "${d} %{e} $${f}", "plain"].map(str::to_owned).to_vec(),
        ..PlanOptions::default()
    };
    for builder in [
        PlanOptions::default(),
        awkward,
        from(SourceRestriction::Ip(vec!["203.0.113.7".to_owned(), "198.51.100.0/24".to_owned()])),
        from(SourceRestriction::Vpce(vec!["vpce-0123456789abcdef0".to_owned()])),
    ] {
        says_the_same(&plan(printed, |toml| toml, &builder));
    }
    for file in ["several_clusters", "several_issuers"] {
        says_the_same(&plan(
            &format!("tests/config/valid/{file}.toml"),
            |toml| toml,
            &PlanOptions::default(),
        ));
    }
}

#[test]
fn roles_of_one_name_in_two_accounts_are_two_resources() {
    let one = "role_arn = \"arn:aws:iam::123456789012:role/pgpassport-orders\"";
    let two = "role_arn = { okta = \"arn:aws:iam::123456789012:role/db/a\", \
               entra = \"arn:aws:iam::210987654321:role/a\" }";
    let entra =
        "[[issuer]]\nname = \"entra\"\nurl = \"https://login.microsoftonline.com/t/v2.0\"\naudience = \"x\"";
    let change = |toml: String| format!("{}\n{entra}", toml.replace(one, two));
    says_the_same(&plan("proxy.toml", change, &PlanOptions::default()));
}
