//! The connection of a cancel request, from its key to its end.

use std::net::IpAddr;

use tokio::time::Instant;

use super::Steps;
use super::outcome::End;
use super::permits::Place;
use crate::postgres::cancel::Ignored;
use crate::postgres::cancel::deliver::{Delivered, Entrance, Undelivered, deliver};
use crate::postgres::cancel::key::CancelKey;
use crate::postgres::limits;
use crate::telemetry::audit::Trail;

/// Carries out a cancel. Whatever becomes of it, all that its sender sees is the end of the connection.
pub(super) async fn carry_out(
    steps: &Steps,
    entrance: Entrance<'_>,
    key: &CancelKey,
    source: IpAddr,
    (place, trail): (&mut Place, &mut Trail),
) -> End {
    let deadline = Instant::now() + limits::CANCEL_TIMEOUT;
    let delivered = async {
        let order = steps.cancels.judge(key, source, deadline).await?;
        if order.server().is_some() {
            // The key proves as much as a token: strangers must not take its place.
            let _ = place.verified(); // one that is evicted at this very moment ends at the next one
            trail.right_cancel_key();
        }
        deliver(&steps.dialers, entrance, &order, deadline).await
    };
    let delivered = delivered.await;
    if matches!(delivered, Err(Undelivered::Ignored(Ignored::Ended))) {
        trail.right_cancel_key(); // it was one, and drivers send it late
    }
    match delivered {
        Ok(Delivered::To(told)) => End::CancelForwarded(told),
        Ok(Delivered::Together) => End::CancelTogether,
        Err(Undelivered::Ignored(why)) => End::CancelIgnored(why),
        Err(Undelivered::Failed(error)) => End::CancelFailed(error),
    }
}
