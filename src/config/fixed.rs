//! What a running service cannot change: the sockets it listens on, the secret of its cancel keys, and the shape of its log.

use super::Config;

impl Config {
    /// The keys that differ from `running` and are taken at a start only.
    pub fn needs_restart(&self, running: &Self) -> Vec<&'static str> {
        let addresses = |config: &Self| -> Vec<_> {
            config.listeners.iter().map(|listen| (listen.addr, listen.reuse_port)).collect()
        };
        let mut keys = Vec::new();
        if addresses(self) != addresses(running) {
            keys.push("listen.addr, listen.reuse_port");
        }
        if self.admin != running.admin {
            keys.push("admin.addr");
        }
        if self.cancel != running.cancel {
            keys.push("cancel.secret_file");
        }
        if self.log.format != running.log.format {
            keys.push("log.format");
        }
        keys
    }
}
