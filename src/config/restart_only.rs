//! Keys that a reload cannot change: listening sockets, the secret of cancel keys, the log format, and the
//! destination of audit records.

use super::schema::recorder::without_numbers;
use super::{Config, ListenSettings};

/// Keys that a reload cannot change.
const RESTART_ONLY: [&str; 10] = [
    "listen.addr",
    "listen.socket_mode",
    "listen.socket_group",
    "listen.reuse_port",
    "admin.addr",
    "profiles.addr",
    "sign_in.addr",
    "cancel.secret_file",
    "log.format",
    "audit.to",
];

/// True for a key that a reload cannot change.
pub(super) fn is_restart_only(key: &str) -> bool {
    RESTART_ONLY.contains(&without_numbers(key).as_str())
}

impl Config {
    /// The keys that differ from `running` and take effect only at a restart.
    pub fn needs_restart(&self, running: &Self) -> Vec<&'static str> {
        let addresses = |config: &Self| -> Vec<_> {
            let socket = |listen: &ListenSettings| (listen.addr.clone(), listen.reuse_port);
            config.listeners.iter().map(socket).collect()
        };
        let mut keys = Vec::new();
        if addresses(self) != addresses(running) {
            keys.push("listen.addr, listen.reuse_port");
        }
        let mut pairs = self.listeners.iter().zip(&running.listeners);
        if pairs.any(|(listen, running)| listen.unix_socket != running.unix_socket) {
            keys.push("listen.socket_mode, listen.socket_group");
        }
        if self.admin.addr != running.admin.addr {
            keys.push("admin.addr");
        }
        let profiles = |config: &Self| config.profiles.as_ref().map(|page| page.listener.addr);
        if profiles(self) != profiles(running) {
            keys.push("profiles.addr");
        }
        let sign_in = |config: &Self| config.sign_in.as_ref().map(|page| page.listener.addr);
        if sign_in(self) != sign_in(running) {
            keys.push("sign_in.addr");
        }
        if self.cancel != running.cancel {
            keys.push("cancel.secret_file");
        }
        if self.log.format != running.log.format {
            keys.push("log.format");
        }
        if self.audit.file != running.audit.file {
            keys.push("audit.to");
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &str = include_str!("../../proxy.toml");

    /// The keys below a comment with `[restart]`, as `section.key`.
    fn marked() -> Vec<String> {
        let (mut section, mut mark, mut keys) = ("", false, Vec::new());
        for line in REFERENCE.lines() {
            if line.starts_with('[') {
                section = line.trim_matches(['[', ']']);
            }
            mark |= line.ends_with(" [restart]");
            match line.trim_start_matches("# ").split_once(" = ") {
                Some((key, _)) if mark && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                    keys.push(format!("{section}.{key}"));
                    mark = false;
                }
                _ => {}
            }
        }
        keys
    }

    #[test]
    fn the_reference_marks_what_needs_a_restart_and_nothing_else() {
        let running = Config::from_toml(REFERENCE, "proxy.toml").unwrap();
        assert!(running.needs_restart(&running).is_empty());
        let mut other = running.clone();
        other.listeners[0].reuse_port = true;
        other.listeners[0].unix_socket.mode = 0o600;
        other.admin.addr = Some("127.0.0.1:1".parse().unwrap());
        let listener = crate::config::PageListener {
            addr: "127.0.0.1:1".parse().unwrap(),
            tls_cert_file: "c".into(),
            tls_key_file: "k".into(),
            proxy_protocol_from: Vec::new(),
        };
        other.profiles = Some(crate::config::ProfilesSettings {
            listener: listener.clone(),
            client_file: "client.toml".into(),
        });
        other.sign_in = Some(crate::config::SignInSettings {
            listener,
            url: "https://a.example".into(),
            issuer: "okta".into(),
            client_id: "c".into(),
            client_secret_file: None,
            scopes: Vec::new(),
            audience: None,
            token: crate::config::client::TokenKind::Access,
            proxies: Vec::new(),
            databases: Vec::new(),
            ca_file: None,
        });
        other.cancel.secret_file = Some("elsewhere".into());
        other.log.format = crate::config::LogFormat::Json;
        other.audit.file = Some("elsewhere".into());
        let mut keys: Vec<_> = other
            .needs_restart(&running)
            .iter()
            .flat_map(|keys| keys.split(", "))
            .map(str::to_owned)
            .collect();
        let mut marked = marked();
        keys.sort();
        marked.sort();
        assert_eq!(keys, marked);
        let mut named = RESTART_ONLY.map(str::to_owned);
        named.sort();
        assert_eq!(keys, named);
    }

    #[test]
    fn another_listener_needs_a_restart_and_another_name_does_not() {
        let running = Config::from_toml(REFERENCE, "proxy.toml").unwrap();
        let mut other = running.clone();
        other.listeners[0].name = "renamed".into();
        other.limits.max_client_conn += 1;
        assert!(other.needs_restart(&running).is_empty());
        other.listeners.push(other.listeners[0].clone());
        assert_eq!(other.needs_restart(&running), ["listen.addr, listen.reuse_port"]);
    }
}
