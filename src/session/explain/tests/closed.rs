//! Refusals of clusters that an operator has closed.

use super::{NOW, Row, check};
use crate::refusal::Stage;
use crate::session::gate::ClusterClosed;

#[test]
fn a_closed_cluster_is_not_the_fault_of_the_token() {
    let app = || "app".to_owned();
    let rows: [Row; 4] = [
        (ClusterClosed::Paused(app()).into(), "57P03", NOW, Stage::Operator, "paused cluster \"app\""),
        (
            ClusterClosed::Paused(app()).into(),
            "57P03",
            NOW,
            Stage::Operator,
            "Nothing is wrong with your token",
        ),
        (ClusterClosed::Drained(app()).into(), "57P03", NOW, Stage::Operator, "drains cluster \"app\""),
        (ClusterClosed::Drained(app()).into(), "57P03", NOW, Stage::Operator, "Connect to another host"),
    ];
    check(&rows);
}
