//! A process that ends while it changes a kubeconfig would leave the lock, and a temporary file with a key.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The changes of this process.
static CHANGES: Changing = Changing::new();

/// What is being changed now.
#[derive(Debug)]
struct Changing {
    /// How many changes are under way, and whether none may begin any more.
    state: Mutex<(usize, bool)>,
    moved: Condvar,
}

/// A change that is under way until this is dropped.
#[derive(Debug)]
pub(super) struct Change(&'static Changing);

impl Change {
    /// Begins a change; never returns once the process is about to end.
    pub(super) fn begin() -> Self {
        CHANGES.begin();
        Self(&CHANGES)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Waits until no kubeconfig is being changed, for at most `limit`, and lets no other change begin.
/// To be called by a process that is about to end.
pub fn settle(limit: Duration) {
    CHANGES.settle(limit);
}

impl Changing {
    const fn new() -> Self {
        Self { state: Mutex::new((0, false)), moved: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, (usize, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let open = self.moved.wait_while(self.state(), |(_, closed)| *closed);
        open.unwrap_or_else(PoisonError::into_inner).0 += 1;
    }

    fn end(&self) {
        self.state().0 -= 1;
        self.moved.notify_all();
    }

    fn settle(&self, limit: Duration) {
        let mut state = self.state();
        state.1 = true;
        drop(self.moved.wait_timeout_while(state, limit, |(count, _)| *count > 0));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn the_end_waits_for_what_began_and_nothing_more_begins() {
        let changes = Arc::new(Changing::new());
        let (ended, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        changes.begin();
        let work = thread::spawn({
            let (changes, ended) = (Arc::clone(&changes), Arc::clone(&ended));
            move || {
                thread::sleep(Duration::from_millis(100));
                ended.store(true, Ordering::SeqCst);
                changes.end();
            }
        });
        changes.settle(Duration::from_secs(30));
        assert!(ended.load(Ordering::SeqCst));
        work.join().unwrap();
        thread::spawn({
            let (changes, begun) = (Arc::clone(&changes), Arc::clone(&begun));
            move || {
                changes.begin();
                begun.store(true, Ordering::SeqCst);
            }
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!begun.load(Ordering::SeqCst));
    }

    #[test]
    fn a_change_that_does_not_end_keeps_nobody_for_ever() {
        let changes = Changing::new();
        changes.begin();
        changes.settle(Duration::from_millis(10));
    }
}
