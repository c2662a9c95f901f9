//! Runs calculations on schedules in the threads for blocking work, because a calculation may take milliseconds: it parses patterns, finds
//! ticks, and compares definitions of up to 4 MiB.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::error::{Error, Result};

/// Runs at most one calculation for every two processors at a time, so that half of the processors are free for requests. Each
/// calculation handles a bounded number of schedules.
#[derive(Debug, Clone)]
pub(crate) struct Calculations {
    permits: Arc<Semaphore>,
}

fn max_concurrent_calculations() -> usize {
    (available_parallelism().map_or(1, NonZero::get) / 2).max(1)
}

impl Default for Calculations {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(max_concurrent_calculations())) }
    }
}

impl Calculations {
    /// Runs a calculation, and returns its result. If the returned future is dropped, a running calculation continues to its end, and
    /// keeps its permit until then.
    pub(crate) async fn run<T: Send + 'static>(&self, calculation: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(Error::unexpected)?;
        let task = spawn_blocking(move || {
            let result = calculation();
            drop(permit);
            result
        });
        task.await.map_err(Error::unexpected)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[tokio::test]
    async fn calculations_run_outside_of_the_async_thread_and_for_half_of_the_processors_at_a_time() {
        let calculations = Calculations::default();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let async_thread = thread::current().id();
        let calculate = || {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            calculations.run(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                thread::current().id()
            })
        };
        let threads = futures_util::future::join_all((0..200).map(|_| calculate())).await;
        assert!(threads.into_iter().all(|thread| thread.unwrap() != async_thread));
        assert!(most.load(Ordering::SeqCst) <= max_concurrent_calculations());
        // A calculation that panics frees its permit for another calculation.
        for _ in 0..max_concurrent_calculations() {
            assert!(calculations.run(|| panic!("on purpose")).await.is_err());
        }
        assert_eq!(calculations.run(|| 5).await.unwrap(), 5);
    }
}
