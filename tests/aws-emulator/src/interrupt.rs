//! Ctrl-C and SIGTERM, noted from the start and acted on where everything can still be cleaned up.

use std::sync::mpsc::{Receiver, channel};

use tokio::signal::unix::{SignalKind, signal};

/// A request to end.
pub struct Interrupt(Receiver<()>);

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Result<Self, String> {
        let (wish, wishes) = channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no runtime for signals: {error}"))?;
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            let listen =
                |kind| signal(kind).map_err(|error| format!("signals cannot be listened to: {error}"));
            (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?)
        };
        std::thread::spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    if wish.send(()).is_err() {
                        return;
                    }
                }
            });
        });
        Ok(Self(wishes))
    }

    /// An error if someone has asked for the end.
    pub fn check(&self) -> Result<(), String> {
        if self.0.try_recv().is_ok() { Err("interrupted".to_owned()) } else { Ok(()) }
    }

    /// Waits until someone asks for the end.
    pub fn wait(&self) {
        // An error means that the listening thread is gone: then nobody can ask any more.
        let _ = self.0.recv();
    }
}
