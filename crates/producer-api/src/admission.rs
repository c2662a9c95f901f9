//! How many may listen to events at a time: each costs a connection for as long as it likes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service::{Problem, config::KeyId};

use crate::{auth::Caller, refusal};

/// Those who listen now.
#[derive(Clone)]
pub(crate) struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    most_per_key: usize,
    admitted: Mutex<Admitted>,
}

#[derive(Default)]
struct Admitted {
    all: usize,
    by_key: HashMap<KeyId, usize>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Admitted> {
        // Nothing that is done under this lock can panic half-way.
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// At most so many at a time, and so many with keys of one id.
    pub(crate) fn new(most: usize, most_per_key: usize) -> Self {
        Self { shared: Arc::new(Shared { most, most_per_key, admitted: Mutex::default() }) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.shared.lock().all
    }

    /// Lets one more in, until the ticket is dropped.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Ticket, Problem> {
        let mut admitted = self.shared.lock();
        if admitted.all >= self.shared.most {
            return Err(refusal::too_many_listeners());
        }
        let key = match caller {
            Caller::Anybody => None,
            Caller::Key(key) => {
                let of_key = admitted.by_key.entry(key.id.clone()).or_default();
                if *of_key >= self.shared.most_per_key {
                    return Err(refusal::too_many_listeners_of(&key.id, self.shared.most_per_key));
                }
                *of_key += 1;
                Some(key.id.clone())
            }
        };
        admitted.all += 1;
        Ok(Ticket { shared: Arc::clone(&self.shared), key })
    }
}

/// The place of one who listens.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    key: Option<KeyId>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut admitted = self.shared.lock();
        admitted.all -= 1;
        if let Some(key) = &self.key
            && let Some(of_key) = admitted.by_key.get_mut(key)
        {
            *of_key -= 1;
            if *of_key == 0 {
                admitted.by_key.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_ticket_is_gone() {
        let admission = Admission::new(2, 1);
        let first = admission.admit(&Caller::Anybody).unwrap_or_else(|_| panic!("there is room"));
        let second = admission.admit(&Caller::Anybody).unwrap_or_else(|_| panic!("there is room"));
        let refused = admission.admit(&Caller::Anybody).err().expect("it is full");
        assert_eq!((refused.code(), admission.count()), ("too_many_listeners", 2));
        drop(first);
        assert!(admission.admit(&Caller::Anybody).is_ok());
        drop(second);
        assert_eq!(admission.count(), 0);
    }
}
