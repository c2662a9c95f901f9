//! Amounts that all requests share, and of which one client may have only so much: places to wait or to listen, and memory for
//! bodies and answers.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use service::config::KeyId;

/// A share whose size is not fixed is at most one of so many parts of what is free, so that many fit beside each other.
const PARTS: usize = 8;

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

impl Taken {
    fn add(&mut self, client: Option<&Client>, amount: usize) {
        self.all += amount;
        if let Some(client) = client {
            *self.by_client.entry(client.clone()).or_default() += amount;
        }
    }
}

impl Shared {
    /// Adds to what a client has. A client that is not counted by itself has no bound but that of all.
    fn add(&self, client: Option<&Client>, amount: usize) -> Result<(), Full> {
        let mut taken = self.taken.lock();
        self.is_free(&taken, client, amount)?;
        taken.add(client, amount);
        Ok(())
    }

    /// Adds a part of what is free to what a client has: at least and at most so much. Answers how much.
    fn add_some(&self, client: Option<&Client>, least: usize, most: usize) -> Result<usize, Full> {
        let mut taken = self.taken.lock();
        let (free, free_for_client) = self.free(&taken, client);
        let amount = (free.min(free_for_client) / PARTS).clamp(least, most);
        self.is_free(&taken, client, amount)?;
        taken.add(client, amount);
        Ok(amount)
    }

    /// How much is free for all, and for this client.
    fn free(&self, taken: &Taken, client: Option<&Client>) -> (usize, usize) {
        let free = self.most.saturating_sub(taken.all);
        let of_client = client.and_then(|client| taken.by_client.get(client));
        let free_for_client = of_client.map(|of_client| self.most_per_client.saturating_sub(*of_client));
        (free, free_for_client.unwrap_or(if client.is_some() { self.most_per_client } else { free }))
    }

    fn is_free(&self, taken: &Taken, client: Option<&Client>, amount: usize) -> Result<(), Full> {
        let (free, free_for_client) = self.free(taken, client);
        match client {
            _ if amount > free => Err(Full::All),
            Some(client) if amount > free_for_client => Err(Full::OfClient(client.clone(), self.most_per_client)),
            _ => Ok(()),
        }
    }

    fn subtract(&self, client: Option<&Client>, amount: usize) {
        let mut taken = self.taken.lock();
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
        self.shared.taken.lock().all
    }

    /// Takes so much, until the share is dropped.
    pub(crate) fn take(&self, client: Option<Client>, amount: usize) -> Result<Share, Full> {
        let mut share = Share { shared: Arc::clone(&self.shared), client, amount: 0 };
        share.resize(amount)?;
        Ok(share)
    }

    /// The most that one client may have.
    pub(crate) fn most_per_client(&self) -> usize {
        self.shared.most_per_client
    }

    /// Takes a part of what is free: at most so much, and at least so much or all that one client may have.
    pub(crate) fn take_some(&self, client: Option<Client>, least: usize, most: usize) -> Result<Share, Full> {
        let least = least.min(self.shared.most_per_client);
        let amount = self.shared.add_some(client.as_ref(), least, most.max(least))?;
        Ok(Share { shared: Arc::clone(&self.shared), client, amount })
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

    /// Takes so much even where there is not so much: for what exists already. Nobody gets more until there is room again.
    pub(crate) fn count(&mut self, amount: usize) {
        if amount > self.amount {
            self.shared.taken.lock().add(self.client.as_ref(), amount - self.amount);
            self.amount = amount;
        } else {
            // To give some back never fails.
            let _ = self.resize(amount);
        }
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
        assert!(memory.shared.taken.lock().by_client.is_empty());
    }

    #[test]
    fn share_of_no_fixed_size_shrinks_as_room_does_and_what_exists_is_counted_without_room() {
        let memory = Budget::new(2_000, 800);
        let client = || Some(Client::Address([192, 0, 2, 1].into()));
        let large = memory.take_some(client(), 10, 80).ok().unwrap();
        let mut next = memory.take_some(client(), 10, 800).ok().unwrap();
        assert_eq!((large.amount(), next.amount()), (80, 90), "an eighth of what is free");
        next.count(5_000);
        assert_eq!(memory.taken(), 5_080);
        assert_eq!(memory.take_some(client(), 10, 80).err(), Some(Full::All));
        assert_eq!(memory.take(None, 1).err(), Some(Full::All));
        next.count(790);
        assert_eq!(memory.take_some(client(), 10, 80).err(), Some(Full::OfClient(client().unwrap(), 800)));
        drop((large, next));
        let all = memory.take_some(client(), 1_000, 1_000).ok().unwrap();
        assert_eq!(all.amount(), 800, "all that one client may have");
    }
}
