//! Connection of a cancel request.

use super::outcome::SessionEnd;
use super::permits::ConnectionAdmission;
use crate::protocol::{CancelContext, Protocol, ValidKey};
use crate::telemetry::audit::AuditRecord;

/// Carries out a cancel. Its sender sees only the end of the connection, whatever the result.
pub(super) async fn carry_out<P: Protocol>(
    request: &P::CancelRequest,
    context: CancelContext<'_, P>,
    (admission, audit): (&mut ConnectionAdmission, &mut AuditRecord),
) -> SessionEnd {
    let proven = |key| {
        if key == ValidKey::Live {
            // A valid key proves as much as a token, so unauthenticated connections must not evict this one.
            let _ = admission.verified(); // one that is evicted at this very moment ends at the next one
        }
        audit.right_cancel_key(); // also that of an ended session: drivers send it late
    };
    SessionEnd::Cancel(P::cancel(request, context, proven).await)
}
