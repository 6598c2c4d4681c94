//! Doctor: checks without a network: the configuration, its files, the listeners' certificates.

use std::time::SystemTime;

use super::LinkProblem;
use super::certificates::CertificateChain;
use super::report::{ChainLink, DoctorReport};
use crate::app::listener_files;
use crate::commands::check;
use crate::config::{ClusterSettings, Config, ListenSettings, PinMode};
use crate::net::certificate::CertificateFacts;
use crate::net::tls;

pub(super) fn config(config: &Config, report: &mut DoctorReport<'_>) {
    let problems = check::outside_problems(&config.files, &config.principals);
    let problems: Vec<_> = problems.iter().map(|one| format!("{}: {}", one.key, one.text)).collect();
    if !problems.is_empty() {
        let remedy = "Correct these; `pgpassport check` looks at them again.";
        return report.fail(ChainLink::Config, LinkProblem::new(problems.join("; "), remedy));
    }
    let notes: Vec<_> = config.clusters.iter().flat_map(lint).collect();
    if notes.is_empty() {
        let (issuers, clusters) = (config.issuers.len(), config.clusters.len());
        return report
            .ok(ChainLink::Config, format!("no problems; {issuers} issuer(s), {clusters} cluster(s)"));
    }
    for (found, remedy) in notes {
        report.warn(ChainLink::Config, LinkProblem::new(found, remedy));
    }
}

/// Findings that work but could be better.
fn lint(cluster: &ClusterSettings) -> Vec<(String, &'static str)> {
    let (name, host) = (&cluster.name, cluster.endpoint.host());
    let mut notes = Vec::new();
    if !cluster.has_aws_name() {
        notes.push((
            format!("endpoint {host} of cluster {name} is not a name that AWS gives"),
            "Write the endpoint as AWS shows it: an alias (CNAME) is in no certificate, and a token signed for it is \
             refused.",
        ));
    }
    if cluster.resource_id.is_none() && cluster.pin.by_policy() {
        notes.push((
            format!("cluster {name} has no resource_id, so the session policy is for every database of the account"),
            "Set cluster.resource_id; it is in the RDS console under Configuration.",
        ));
    }
    if cluster.pin == PinMode::None {
        notes.push((
            format!("cluster {name} has pin = \"none\": only the role's policy limits the database users"),
            "Leave pin out, or set it to \"session-policy\".",
        ));
    }
    notes
}

pub(super) fn listeners(listeners: &[ListenSettings], now: SystemTime, report: &mut DoctorReport<'_>) {
    for listen in listeners {
        let Some(files) = listener_files(listen) else {
            report.skip(ChainLink::ListenerCertificate, format!("{} has no TLS", listen.addr));
            continue;
        };
        let (cert_file, path) = (files.cert_file, files.cert_file.display());
        if tls::server_config(files, None).is_err() {
            report.skip(ChainLink::ListenerCertificate, "not tried: the listener's files cannot be used");
            continue;
        }
        match CertificateFacts::read_file(cert_file) {
            Ok(certificates) => {
                let chain = CertificateChain {
                    whose: "",
                    what: &format!("the certificate in {path}"),
                    certificates: &certificates,
                    remedy: &format!("Put a new certificate into {path} and reload."),
                    matters: "Clients that check certificates, as they should, cannot connect.",
                    order: Some("Some clients do not build the chain themselves."),
                };
                chain.tell(ChainLink::ListenerCertificate, "", now, report);
            }
            Err(error) => {
                let remedy = "Name a PEM file with the whole chain in listen.tls_cert_file, leaf first.";
                report.fail(ChainLink::ListenerCertificate, LinkProblem::new(error.to_string(), remedy));
            }
        }
    }
}
