//! Repeating a request: what its failure says about another attempt, and how long to pause.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::kubernetes::client::{Failure, Outlook};

/// Pause between attempts while the API server starts.
pub(super) const PAUSE: Duration = Duration::from_millis(30);
/// Pause between attempts when the API server has been struggling for a while.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Attempts with the short pause. An API server that starts as usual answers within them, and loses no time.
const EAGER_ATTEMPTS: u32 = 200;
/// How long the server may still be at work on a request whose answer was lost: its own limit for a request.
const LOST_GRACE: Duration = Duration::from_secs(60);
/// How long a cluster may lack what its own controllers make at first, on a slow machine.
const SETTLING: Duration = Duration::from_secs(60);
/// Time that an attempt has even if the deadline is near or over.
const MIN_ATTEMPT: Duration = Duration::from_secs(5);

/// Repeats a request while another attempt may succeed.
pub(super) async fn retry<F, T>(deadline: Instant, request: F) -> Result<T, Failure>
where
    F: AsyncFnMut() -> Result<T, Failure>,
{
    repeat(deadline, Duration::ZERO, request).await
}

/// Repeats a request that writes. A refusal after a lost answer counts only when it lasts: the server may still be at work
/// on the first attempt, which then stands in the way of the second, such as with "provided IP is already allocated".
pub(super) async fn retry_write<F, T>(deadline: Instant, request: F) -> Result<T, Failure>
where
    F: AsyncFnMut() -> Result<T, Failure>,
{
    repeat(deadline, LOST_GRACE, request).await
}

async fn repeat<F, T>(deadline: Instant, grace: Duration, mut request: F) -> Result<T, Failure>
where
    F: AsyncFnMut() -> Result<T, Failure>,
{
    let begun = Instant::now();
    let mut lost: Option<Instant> = None;
    for attempt in 0_u32.. {
        let failure = match timeout_at(deadline.max(Instant::now() + MIN_ATTEMPT), request()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) => failure,
            Err(_) => return Err(Failure::Lost("the API server did not answer in time".to_owned())),
        };
        let outlook = failure.outlook();
        if outlook == Outlook::Unknown {
            lost = Some(Instant::now());
        }
        let is_busy = lost.is_some_and(|at| at.elapsed() < grace);
        let is_final = match outlook {
            Outlook::Never => !is_busy,
            Outlook::Settles => !is_busy && begun.elapsed() >= SETTLING,
            Outlook::Passes | Outlook::Unknown => false,
        };
        if is_final || Instant::now() >= deadline {
            return Err(failure);
        }
        sleep(if is_busy || attempt >= EAGER_ATTEMPTS { MAX_PAUSE } else { PAUSE }).await;
    }
    unreachable!("attempts are counted to the end of time")
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
