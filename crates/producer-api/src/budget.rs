//! Budgets that all requests share, and of which one client may have only a part: the number of requests that wait and of event
//! streams, and the memory for bodies and responses.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use service::config::KeyId;

/// A share whose size is not fixed is at most this part of the free amount, so that many shares fit beside each other.
const PARTS: usize = 8;

/// The owner of a share.
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

/// An amount that all requests share.
#[derive(Clone)]
pub(crate) struct Budget {
    most: usize,
    most_per_client: usize,
    taken: Arc<Mutex<Taken>>,
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

    fn subtract(&mut self, client: Option<&Client>, amount: usize) {
        self.all -= amount;
        if let Some(client) = client
            && let Some(of_client) = self.by_client.get_mut(client)
        {
            *of_client -= amount;
            if *of_client == 0 {
                self.by_client.remove(client);
            }
        }
    }
}

/// The reason why a share is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    /// This client has all, or nearly all, of the amount that one client may have.
    OfClient(Client, usize),
}

impl Budget {
    /// A budget of `most` for all clients, and of `most_per_client` for each one.
    pub(crate) fn new(most: usize, most_per_client: usize) -> Self {
        Self { most, most_per_client, taken: Arc::default() }
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().all
    }

    pub(crate) fn most_per_client(&self) -> usize {
        self.most_per_client
    }

    /// Takes an amount until the share is dropped.
    pub(crate) fn take(&self, client: Option<Client>, amount: usize) -> Result<Share, Full> {
        let mut share = Share { budget: self.clone(), client, amount: 0 };
        share.resize(amount)?;
        Ok(share)
    }

    /// Takes a part of the free amount: at most `most`, and at least `least` or all that one client may have.
    pub(crate) fn take_some(&self, client: Option<Client>, least: usize, most: usize) -> Result<Share, Full> {
        let least = least.min(self.most_per_client);
        let amount = self.add(client.as_ref(), least, most.max(least))?;
        Ok(Share { budget: self.clone(), client, amount })
    }

    /// Gives a client a part of the free amount, at least `least` and at most `most`, and returns how much. A client that is
    /// not counted by itself has no bound but that of all.
    fn add(&self, client: Option<&Client>, least: usize, most: usize) -> Result<usize, Full> {
        let mut taken = self.taken.lock();
        let free = self.most.saturating_sub(taken.all);
        let of_client = |client| taken.by_client.get(client).copied().unwrap_or(0);
        let free_for_client = client.map_or(free, |client| self.most_per_client.saturating_sub(of_client(client)));
        let amount = (free.min(free_for_client) / PARTS).clamp(least, most);
        match client {
            _ if amount > free => return Err(Full::All),
            Some(client) if amount > free_for_client => {
                return Err(Full::OfClient(client.clone(), self.most_per_client));
            }
            _ => taken.add(client, amount),
        }
        Ok(amount)
    }
}

#[must_use = "its amount is free again when it is dropped"]
pub(crate) struct Share {
    budget: Budget,
    client: Option<Client>,
    amount: usize,
}

impl Share {
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Takes more, or returns some. If the budget does not have enough left, the share stays unchanged.
    pub(crate) fn resize(&mut self, amount: usize) -> Result<(), Full> {
        if amount > self.amount {
            let more = amount - self.amount;
            self.budget.add(self.client.as_ref(), more, more)?;
        } else if amount < self.amount {
            self.budget.taken.lock().subtract(self.client.as_ref(), self.amount - amount);
        }
        self.amount = amount;
        Ok(())
    }

    /// Takes an amount even when the budget has not so much left, for memory that is in use already. Others get nothing until
    /// there is room again.
    pub(crate) fn count(&mut self, amount: usize) {
        if amount > self.amount {
            self.budget.taken.lock().add(self.client.as_ref(), amount - self.amount);
            self.amount = amount;
        } else {
            // A smaller amount never fails.
            let _ = self.resize(amount);
        }
    }

    /// Another share of the same client, which is empty yet.
    pub(crate) fn sibling(&self) -> Self {
        Self { budget: self.budget.clone(), client: self.client.clone(), amount: 0 }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // A smaller amount never fails.
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_share_is_free_for_others() {
        let budget = Budget::new(2, 1);
        let (first, second) = (budget.take(None, 1).ok(), budget.take(None, 1).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!((budget.take(None, 1).err(), budget.taken()), (Some(Full::All), 2));
        drop(first);
        assert!(budget.take(None, 1).is_ok());
        drop(second);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn client_gets_at_most_its_part_and_refused_share_stays_unchanged() {
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
        assert!(memory.taken.lock().by_client.is_empty());
    }

    #[test]
    fn share_without_fixed_size_shrinks_with_the_free_amount_and_used_memory_counts_beyond_the_budget() {
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
