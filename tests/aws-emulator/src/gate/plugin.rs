//! The questions of `mysql-plugin/aws_auth.c`: user and token, each after its length (4 bytes, big-endian). The answer is `+`,
//! or `-` and the reason, and then the end of the connection.

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::GateState;
use crate::EmulatorError;
use crate::sync::runtime;

/// The longest string that is read: past any token, far below the 16 MiB that the servers take as a password.
const LONGEST: u32 = 1 << 20;

/// A gate's Unix socket. With its owner it stops listening, and open connections are closed.
pub struct GateSocket(JoinHandle<()>);

impl GateSocket {
    pub(super) fn listen(path: &Path, state: Arc<GateState>) -> Result<Self, EmulatorError> {
        let _entered = runtime().enter();
        let io = EmulatorError::io(format!("listening on {}", path.display()));
        let listener = UnixListener::bind(path).map_err(io)?;
        Ok(Self(runtime().spawn(async move {
            // Dropping the set ends the connections: aborting this one task stops everything.
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            open.spawn(serve(Arc::clone(&state), stream));
                        }
                    }
                    Some(_) = open.join_next() => {}
                }
            }
        })))
    }
}

impl Drop for GateSocket {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn serve(state: Arc<GateState>, mut stream: UnixStream) {
    let Some(user) = read(&mut stream).await else { return };
    let Some(token) = read(&mut stream).await else { return };
    let Some(outcome) = state.decide(user, &token).await else { return };
    let answer = outcome.map_or_else(|refusal| format!("-{refusal}"), |()| "+".to_owned());
    // A server that has gone needs no answer.
    let _ = stream.write_all(answer.as_bytes()).await;
}

/// Reads a string; `None` if it breaks off or is too long.
async fn read(stream: &mut UnixStream) -> Option<String> {
    let length = stream.read_u32().await.ok().filter(|length| *length <= LONGEST)?;
    let mut text = vec![0; usize::try_from(length).ok()?];
    stream.read_exact(&mut text).await.ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}
