//! Recipes for issuers whose tokens are those of programs: pods and CI jobs.

use super::Advice;

/// Service accounts of a cluster.
pub(super) fn kubernetes(tag: bool) -> Advice {
    let mut steps = vec![
        "Mount a token with an audience of its own into each pod, as below, and let the program read the file for each \
         connection: the kubelet replaces it."
            .to_owned(),
        "Take the database user from \"sub\" (system:serviceaccount:NAMESPACE:NAME) with a regex for your own \
         namespaces: creating a service account or a pod in one of them is enough to become its users."
            .to_owned(),
        "IAM and the proxy fetch the keys from the issuer's URL. Amazon EKS serves them publicly; publish those of \
         another cluster there."
            .to_owned(),
    ];
    without_tags(&mut steps, tag, "The API server");
    let snippet = "volumes:
  - name: pgpassport
    projected:
      sources:
        - serviceAccountToken: { path: token, audience: pgpassport, expirationSeconds: 3600 }";
    (steps, Some(snippet.to_owned()))
}

/// Jobs of GitHub Actions.
pub(super) fn github(tag: bool) -> Advice {
    let mut steps = vec![
        "Anybody on GitHub gets tokens of this issuer: require { claim = \"repository_owner\", any = [\"acme\"] }, and \
         name your repositories in the role's trust policy, by a condition on \
         token.actions.githubusercontent.com:sub."
            .to_owned(),
        "Take the database user from \"sub\" with a regex for one branch or environment, such as \
         repo:acme/([a-z0-9_-]+):ref:refs/heads/main; jobs of pull requests have tokens, too."
            .to_owned(),
        "Give the job the permission id-token: write, and let it ask for a token right before it connects; the token \
         lives for five minutes:"
            .to_owned(),
    ];
    without_tags(&mut steps, tag, "GitHub");
    let snippet = r#"PGPASSWORD="$(curl -sSf -H "Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN" \
  "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=pgpassport" | jq -r .value)""#;
    (steps, Some(snippet.to_owned()))
}

/// Jobs of GitLab CI.
pub(super) fn gitlab(tag: bool) -> Advice {
    let mut steps = vec![
        "Anybody on gitlab.com gets tokens of its issuer: require { claim = \"namespace_path\", any = [\"acme\"] }, and \
         name your projects in the role's trust policy, by a condition on gitlab.com:sub."
            .to_owned(),
        "Take the database user from \"sub\" with a regex for one branch, such as \
         project_path:acme/([a-z0-9_-]+):ref_type:branch:ref:main, and require { claim = \"ref_protected\", any = \
         [\"true\"] }."
            .to_owned(),
        "Let the job ask for a token in .gitlab-ci.yml:".to_owned(),
    ];
    without_tags(&mut steps, tag, "GitLab");
    let snippet = "id_tokens:
  PGPASSWORD:
    aud: pgpassport";
    (steps, Some(snippet.to_owned()))
}

/// These issuers write no claims of an administrator's choice.
fn without_tags(steps: &mut Vec<String>, tag: bool, issuer: &str) {
    if tag {
        let text = format!(
            "{issuer} puts no claims of yours into its tokens, so there can be no session tag: use pin = \
             \"session-policy\" with --source-ip or --source-vpce."
        );
        steps.insert(0, text);
    }
}
