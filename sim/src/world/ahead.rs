//! Work that is done ahead of its time: what a message holds is settled when it is sent and wanted when it comes, and
//! a second thread makes it meanwhile.
//!
//! A value follows from what its maker was given and from nothing else, so that it is the same whoever makes it, and
//! when. Whoever wants it first makes it, and whoever comes meanwhile waits: the second thread only takes work off the
//! first, and a story is the same without it.

use std::fmt;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock};
use std::thread::{Builder, JoinHandle};

/// Handed over together, because to wake a thread costs as much as to sign; a small fleet never fills it, and has no
/// second thread.
const AT_ONCE: usize = 64;

type Maker<T> = Box<dyn FnOnce() -> T + Send>;
type Work = Box<dyn FnOnce() + Send>;

/// A value that is there when it is wanted. Clones share it.
pub(super) struct Ahead<T>(Arc<LazyLock<T, Maker<T>>>);

impl<T> Ahead<T> {
    /// The value; made now, where nobody has yet.
    pub(super) fn get(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Ahead<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Whether it is made already is no part of the story.
impl<T> fmt::Debug for Ahead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ahead")
    }
}

/// The second thread, and what it is to be given next.
#[derive(Default)]
pub(super) struct Second {
    next: Vec<Work>,
    thread: Option<(Sender<Vec<Work>>, JoinHandle<()>)>,
}

impl Second {
    /// Has a value made by the time at which it is wanted.
    pub(super) fn make<T: Send + Sync + 'static>(
        &mut self,
        maker: impl FnOnce() -> T + Send + 'static,
    ) -> Ahead<T> {
        let value = Arc::new(LazyLock::new(Box::new(maker) as Maker<T>));
        let same = Arc::clone(&value);
        self.next.push(Box::new(move || {
            LazyLock::force(&same);
        }));
        if self.next.len() == AT_ONCE {
            let work = std::mem::take(&mut self.next);
            if self.thread.is_none() {
                self.thread = start();
            }
            if let Some((sender, _)) = &self.thread {
                // A thread that has ended leaves all to this one.
                let _ = sender.send(work);
            }
        }
        Ahead(value)
    }
}

/// Starts the thread; where the system has none to give, everything is made when it is wanted.
fn start() -> Option<(Sender<Vec<Work>>, JoinHandle<()>)> {
    let (sender, receiver) = channel::<Vec<Work>>();
    let work = move || receiver.into_iter().flatten().for_each(|work| work());
    let thread = Builder::new().name("ahead".to_owned()).spawn(work).ok()?;
    Some((sender, thread))
}

impl Drop for Second {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It panics where a maker does, and then whoever wanted the value has panicked too.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn each_value_is_made_once_whoever_wants_it_first() {
        let (mut second, made) = (Second::default(), Arc::new(AtomicUsize::new(0)));
        let count = 3 * AT_ONCE + 1;
        let make = |number: usize| {
            let made = Arc::clone(&made);
            move || {
                made.fetch_add(1, Ordering::SeqCst);
                number * 2
            }
        };
        let values: Vec<Ahead<usize>> = (0..count).map(|number| second.make(make(number))).collect();
        assert!(values.iter().enumerate().all(|(number, value)| *value.get() == number * 2));
        assert_eq!(second.next.len(), 1, "what is too little to wake a thread for waits until it is wanted");
        drop(second);
        assert_eq!(made.load(Ordering::SeqCst), count);
    }
}
