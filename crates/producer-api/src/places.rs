//! How many requests may take their time at once, and how many with keys of one id: those that listen to events as long as
//! they like, and those that wait for something.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service::config::KeyId;

use crate::auth::Caller;

/// The places that there are, and who has them.
#[derive(Clone)]
pub(crate) struct Places {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    most_per_key: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_key: HashMap<KeyId, usize>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing that is done under this lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All are taken.
    All,
    /// Keys of this id have as many as they may.
    OfKey(KeyId, usize),
}

impl Places {
    /// At most so many at a time, and so many with keys of one id.
    pub(crate) fn new(most: usize, most_per_key: usize) -> Self {
        Self { shared: Arc::new(Shared { most, most_per_key, taken: Mutex::default() }) }
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.shared.lock().all
    }

    /// Takes one, until it is dropped.
    pub(crate) fn take(&self, caller: &Caller) -> Result<Place, Full> {
        let mut taken = self.shared.lock();
        if taken.all >= self.shared.most {
            return Err(Full::All);
        }
        let key = match caller {
            Caller::Anybody => None,
            Caller::Key(key) => {
                let of_key = taken.by_key.entry(key.id.clone()).or_default();
                if *of_key >= self.shared.most_per_key {
                    return Err(Full::OfKey(key.id.clone(), self.shared.most_per_key));
                }
                *of_key += 1;
                Some(key.id.clone())
            }
        };
        taken.all += 1;
        Ok(Place { shared: Arc::clone(&self.shared), key })
    }
}

/// The place of one request.
#[must_use = "it is given back when it is dropped"]
pub(crate) struct Place {
    shared: Arc<Shared>,
    key: Option<KeyId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.shared.lock();
        taken.all -= 1;
        if let Some(key) = &self.key
            && let Some(of_key) = taken.by_key.get_mut(key)
        {
            *of_key -= 1;
            if *of_key == 0 {
                taken.by_key.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_given_back() {
        let places = Places::new(2, 1);
        let (first, second) = (places.take(&Caller::Anybody).ok(), places.take(&Caller::Anybody).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!((places.take(&Caller::Anybody).err(), places.taken()), (Some(Full::All), 2));
        drop(first);
        assert!(places.take(&Caller::Anybody).is_ok());
        drop(second);
        assert_eq!(places.taken(), 0);
    }
}
