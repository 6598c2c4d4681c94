//! The state of the process that commands show and change.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::averages::StatsPeriods;
use crate::accept::acceptor::Generation;
use crate::session::shared::Shared;

/// State that commands show and change.
#[derive(Debug)]
pub struct ConsoleDesk {
    /// The state that outlives a configuration.
    pub shared: Arc<Shared>,
    /// The current configuration.
    pub current: Arc<ArcSwap<Generation>>,
    /// Totals at the ends of the last periods.
    pub(super) periods: StatsPeriods,
}

impl ConsoleDesk {
    /// A desk whose first period of statistics begins.
    pub fn new(shared: Arc<Shared>, current: Arc<ArcSwap<Generation>>) -> Self {
        Self { shared, current, periods: StatsPeriods::default() }
    }
}
