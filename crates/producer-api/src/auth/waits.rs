use std::{collections::HashMap, sync::Arc};

use queue_core::Millis;
use service::{Problem, config::KeyId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Caller, Keyring, refusal};

/// How many requests that wait each key has open: answers that are waited for, and long polls. Where there are no keys,
/// only the connections are counted.
#[derive(Debug)]
pub(crate) struct Waits {
    most: usize,
    free: HashMap<KeyId, Arc<Semaphore>>,
}

/// The right to wait, until it is dropped.
pub(crate) struct Wait {
    _place: Option<OwnedSemaphorePermit>,
}

impl Waits {
    /// So many for each owner of keys.
    pub(crate) fn new(keyring: &Keyring, most: usize) -> Self {
        let free = keyring.ids().map(|id| (id.clone(), Arc::new(Semaphore::new(most)))).collect();
        Self { most, free }
    }

    /// Lets somebody wait for so long.
    pub(crate) fn begin(&self, caller: &Caller, wait: Millis) -> Result<Wait, Problem> {
        let id = match caller {
            Caller::Key(key) if !wait.is_zero() => &key.id,
            _ => return Ok(Wait { _place: None }),
        };
        match self.free.get(id).map(|free| Arc::clone(free).try_acquire_owned()) {
            Some(Ok(place)) => Ok(Wait { _place: Some(place) }),
            Some(Err(_)) => Err(refusal::too_many_waits(id, self.most)),
            // Every caller's key is on the keyring.
            None => Ok(Wait { _place: None }),
        }
    }
}
