//! Open cursors of a session. A cursor belongs to a prepared statement.

/// Most cursors that are told apart. With more the session counts as in a transaction until its reset.
pub(super) const MAX_CURSORS: usize = 64;

/// Statements with an open cursor.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    statements: Vec<u32>,
    uncounted: bool,
}

impl Cursors {
    pub(super) fn any(&self) -> bool {
        self.uncounted || !self.statements.is_empty()
    }

    pub(super) fn open(&mut self, statement: u32) {
        if self.statements.contains(&statement) {
            return;
        }
        if self.statements.len() == MAX_CURSORS {
            self.uncounted = true;
        } else {
            self.statements.push(statement);
        }
    }

    pub(super) fn close(&mut self, statement: u32) {
        self.statements.retain(|open| *open != statement);
    }
}
