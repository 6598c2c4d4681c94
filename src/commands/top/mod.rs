//! `pgpassport top`: sessions and logins of the running proxy, live in a terminal. Reads the admin address only.

mod fit;
mod scrape;
mod screen;

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use terminal_size::terminal_size;

use self::fit::fit;
use self::scrape::Scrape;
use self::screen::{ScreenStyle, screen};
use crate::commands::health::{self, HealthError};

/// Largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 8 << 20;

/// Time that rates and quantiles look back.
const WINDOW: Duration = Duration::from_mins(1);

/// Most scrapes in memory.
const MAX_SCRAPES: usize = 241;

/// Longest wait for the connection, and for each part of an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Cuts lines at the edge of the terminal, and wraps them there again (DECAWM): a wrapped line would scroll the head away.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Clears the terminal.
const CLEAR: &str = "\x1b[2J";

/// The wishes of the viewer.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Admin address of the proxy; the configuration is then not read.
    #[arg(long, value_name = "ADDR:PORT")]
    addr: Option<SocketAddr>,
    /// Time between two looks, from 250ms to 1m.
    #[arg(long, default_value = "2s", value_parser = interval)]
    interval: Duration,
    /// Print one screen and end; rates are those of one interval.
    #[arg(long)]
    once: bool,
}

/// The proxy's state at a moment.
struct Look {
    at: Instant,
    scrape: Scrape,
    /// The reason why new clients are not accepted, if they are not.
    not_ready: Option<String>,
}

impl TopArgs {
    /// Shows the proxy that runs with the configuration `file` until the process is ended. A proxy that does not answer
    /// after the first look is shown as such, and asked again.
    pub fn run(&self, file: &Path) -> Result<(), HealthError> {
        let addr = match self.addr {
            Some(addr) => addr,
            None => health::configured(file)?,
        };
        let addr = health::reachable(addr);
        let terminal = io::stdout().is_terminal();
        let style = ScreenStyle { color: terminal && std::env::var_os("NO_COLOR").is_none() };
        let mut looks = VecDeque::from([look(addr)?]);
        if self.once || !terminal {
            sleep(self.interval);
            looks.push_back(look(addr)?);
            print(&screen(addr, looks.make_contiguous(), None, style));
            return Ok(());
        }
        let mut lost = None;
        let mut start = CLEAR;
        loop {
            let text = screen(addr, looks.make_contiguous(), lost.as_deref(), style);
            // A longer screen would scroll, and its first lines are those that matter.
            let text = match terminal_size() {
                Some((_, rows)) => fit(&text, usize::from(rows.0)),
                None => text,
            };
            // Each line clears its own rest, so that nothing flickers. A line feed behind the last one would scroll.
            let frame = text.trim_end_matches('\n').replace('\n', "\x1b[K\n");
            if !print(&format!("{start}\x1b[H{NO_WRAP}{frame}{WRAP}\x1b[K\x1b[J")) {
                return Ok(()); // nobody reads it any more
            }
            start = "";
            sleep(self.interval);
            match look(addr) {
                Ok(next) => {
                    lost = None;
                    looks.push_back(next);
                }
                Err(error) => lost = Some(error.to_string()),
            }
            let too_old = |look: &Look| look.at.elapsed() > WINDOW + self.interval;
            while looks.len() > MAX_SCRAPES || (looks.len() > 2 && looks.front().is_some_and(too_old)) {
                looks.pop_front();
            }
        }
    }
}

fn look(addr: SocketAddr) -> Result<Look, HealthError> {
    let (status, metrics) = health::get(addr, "/metrics", TIMEOUT, MAX_ANSWER)?;
    if status != 200 {
        return Err(HealthError::NotHttp(addr));
    }
    let (status, words) = health::get(addr, "/readyz", TIMEOUT, MAX_ANSWER)?;
    let not_ready = (status != 200).then(|| words.trim().to_owned());
    Ok(Look { at: Instant::now(), scrape: Scrape::parse(&metrics), not_ready })
}

/// Prints text as it is. False if that fails.
fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let (least, most) = (Duration::from_millis(250), Duration::from_mins(1));
    if interval < least || interval > most { Err("allowed is 250ms to 1m".to_owned()) } else { Ok(interval) }
}
