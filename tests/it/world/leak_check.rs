//! The end of every world: what it kept secret is in no log line and was told to no client.

use aws_emulator::percent_encode;

use super::{World, log};

impl World {
    fn planted(&self) -> Vec<String> {
        let mut secrets = self.secrets.lock().unwrap().clone();
        // Of a thousand, some are enough: each one is looked for in the whole log.
        for key in self.cloud.sts.calls().into_iter().filter_map(|call| call.access_key_id).take(20) {
            if let Some(session) = self.cloud.sts.store().get(&key) {
                secrets.push(percent_encode(&session.session_token));
                secrets.push(session.session_token);
                secrets.push(session.secret);
            }
        }
        secrets.retain(|secret| !secret.is_empty());
        secrets
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stopping.drain.cancel();
        self.stopping.now.cancel();
        if std::thread::panicking() {
            return;
        }
        let heard = String::from_utf8_lossy(&self.heard.lock().unwrap()).into_owned();
        let log = log::since(self.log_from);
        for secret in self.planted() {
            let shown: String = secret.chars().take(12).collect();
            assert!(!heard.contains(&secret), "a client was told the secret {shown}…");
            assert!(!log::contains(&log, &secret), "the secret {shown}… is in the log");
        }
    }
}
