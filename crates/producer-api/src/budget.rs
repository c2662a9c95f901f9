//! Amounts that all requests share, and of which one client may have only so much: places to wait or to listen, and memory for
//! bodies.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service::config::KeyId;

/// Whose share it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// All requests with keys of this id.
    Key(KeyId),
    /// All requests from this address, where there are no keys.
    Address(IpAddr),
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "the key {}", id.as_str()),
            Self::Address(address) => write!(f, "the address {address}"),
        }
    }
}

/// An amount, and who has how much of it.
#[derive(Clone)]
pub(crate) struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    most_per_client: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_client: HashMap<Client, usize>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing that is done under this lock can panic half-way.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what a client has. A client that is not counted by itself has no bound but that of all.
    fn add(&self, client: Option<&Client>, amount: usize) -> Result<(), Full> {
        let mut taken = self.lock();
        if amount > self.most - taken.all {
            return Err(Full::All);
        }
        if let Some(client) = client {
            let of_client = taken.by_client.get(client).copied().unwrap_or(0);
            if amount > self.most_per_client - of_client {
                return Err(Full::OfClient(client.clone(), self.most_per_client));
            }
            taken.by_client.insert(client.clone(), of_client + amount);
        }
        taken.all += amount;
        Ok(())
    }

    fn subtract(&self, client: Option<&Client>, amount: usize) {
        let mut taken = self.lock();
        taken.all -= amount;
        if let Some(client) = client
            && let Some(of_client) = taken.by_client.get_mut(client)
        {
            *of_client -= amount;
            if *of_client == 0 {
                taken.by_client.remove(client);
            }
        }
    }
}

/// Why there is no more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// All of it is taken.
    All,
    /// This client has nearly, or all of, so much, which is the most for one.
    OfClient(Client, usize),
}

impl Budget {
    /// So much for all, and so much of it at most for one client.
    pub(crate) fn new(most: usize, most_per_client: usize) -> Self {
        Self { shared: Arc::new(Shared { most, most_per_client, taken: Mutex::default() }) }
    }

    /// How much is taken.
    pub(crate) fn taken(&self) -> usize {
        self.shared.lock().all
    }

    /// Takes so much, until the share is dropped.
    pub(crate) fn take(&self, client: Option<Client>, amount: usize) -> Result<Share, Full> {
        let mut share = Share { shared: Arc::clone(&self.shared), client, amount: 0 };
        share.resize(amount)?;
        Ok(share)
    }
}

/// The share of one request.
#[must_use = "it is given back when it is dropped"]
pub(crate) struct Share {
    shared: Arc<Shared>,
    client: Option<Client>,
    amount: usize,
}

impl Share {
    /// How much it is.
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Takes more, or gives some back. When there is not so much, it stays as it was.
    pub(crate) fn resize(&mut self, amount: usize) -> Result<(), Full> {
        if amount > self.amount {
            self.shared.add(self.client.as_ref(), amount - self.amount)?;
        } else if amount < self.amount {
            self.shared.subtract(self.client.as_ref(), self.amount - amount);
        }
        self.amount = amount;
        Ok(())
    }

    /// Another share of the same client, which is nothing yet.
    pub(crate) fn sibling(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), client: self.client.clone(), amount: 0 }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.shared.subtract(self.client.as_ref(), self.amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_that_is_dropped_is_there_for_others_again() {
        let places = Budget::new(2, 1);
        let (first, second) = (places.take(None, 1).ok(), places.take(None, 1).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!((places.take(None, 1).err(), places.taken()), (Some(Full::All), 2));
        drop(first);
        assert!(places.take(None, 1).is_ok());
        drop(second);
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn one_client_gets_no_more_than_its_part_and_a_refused_share_stays_as_it_was() {
        let memory = Budget::new(100, 25);
        let client = |last: u8| Some(Client::Address([192, 0, 2, last].into()));
        let mut one = memory.take(client(1), 10).ok().unwrap();
        let mut sibling = one.sibling();
        assert_eq!(sibling.resize(16), Err(Full::OfClient(client(1).unwrap(), 25)));
        assert!(sibling.resize(15).is_ok() && one.resize(11).is_err());
        assert_eq!((one.amount(), sibling.amount(), memory.taken()), (10, 15, 25));
        let others: Vec<_> = (2..5).map(|last| memory.take(client(last), 25).ok().unwrap()).collect();
        assert_eq!(memory.take(client(9), 1).err(), Some(Full::All));
        drop((one, others));
        assert!(sibling.resize(3).is_ok());
        assert_eq!(memory.taken(), 3);
        drop(sibling);
        assert!(memory.shared.lock().by_client.is_empty());
    }
}
