//! Connection of a cancel request: check of the key and delivery.

use std::net::IpAddr;

use tokio::time::Instant;

use super::SessionContext;
use super::outcome::SessionEnd;
use super::permits::ConnectionAdmission;
use crate::postgres::cancel::CancelIgnored;
use crate::postgres::cancel::deliver::{CancelEntrance, Delivered, Undelivered, deliver};
use crate::postgres::cancel::key::CancelKey;
use crate::postgres::limits;
use crate::telemetry::audit::AuditRecord;

/// Carries out a cancel. Its sender sees only the end of the connection, whatever the result.
pub(super) async fn carry_out(
    context: &SessionContext,
    entrance: CancelEntrance<'_>,
    key: &CancelKey,
    source: IpAddr,
    (admission, audit): (&mut ConnectionAdmission, &mut AuditRecord),
) -> SessionEnd {
    let deadline = Instant::now() + limits::CANCEL_TIMEOUT;
    let delivered = async {
        let order = context.shared.cancels.judge(key, source, deadline).await?;
        if order.server().is_some() {
            // A valid key proves as much as a token, so unauthenticated connections must not evict this one.
            let _ = admission.verified(); // one that is evicted at this very moment ends at the next one
            audit.right_cancel_key();
        }
        deliver(&context.dialers, entrance, &order, deadline).await
    };
    let delivered = delivered.await;
    if matches!(delivered, Err(Undelivered::Ignored(CancelIgnored::Ended))) {
        audit.right_cancel_key(); // it was one, and drivers send it late
    }
    match delivered {
        Ok(Delivered::To(told)) => SessionEnd::CancelForwarded(told),
        Ok(Delivered::Together) => SessionEnd::CancelTogether,
        Err(Undelivered::Ignored(why)) => SessionEnd::CancelIgnored(why),
        Err(Undelivered::Failed(error)) => SessionEnd::CancelFailed(error),
    }
}
