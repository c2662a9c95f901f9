//! Budgets, which limit the number of waiting requests, the number of event streams, and the memory of bodies and responses.
//! All requests share a budget, and each client may take only a part of the budget.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use service::config::KeyId;

/// The number by which the free amount of a budget is divided to get the size of a flexible share, so that several flexible
/// shares fit into the budget. A flexible share of a budget may have any size from a minimum to a maximum.
const FLEXIBLE_SHARE_DIVISOR: usize = 8;

/// The client that owns a share of a budget.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    /// The client whose API keys have this id.
    Key(KeyId),
    /// The client with this IPv4 address, or from this IPv6 /64 network, if the API has no keys.
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

/// A limited amount of memory, waiting requests or event streams, which all requests share.
#[derive(Clone)]
pub(crate) struct Budget {
    max: usize,
    max_per_client: usize,
    taken: Arc<Mutex<TakenAmounts>>,
}

#[derive(Default)]
struct TakenAmounts {
    total: usize,
    by_client: HashMap<Client, usize>,
}

impl TakenAmounts {
    fn add(&mut self, client: Option<&Client>, amount: usize) {
        self.total += amount;
        if let Some(client) = client {
            *self.by_client.entry(client.clone()).or_default() += amount;
        }
    }

    fn subtract(&mut self, client: Option<&Client>, amount: usize) {
        self.total -= amount;
        if let Some(client) = client
            && let Some(client_amount) = self.by_client.get_mut(client)
        {
            *client_amount -= amount;
            if *client_amount == 0 {
                self.by_client.remove(client);
            }
        }
    }
}

/// The reason why a memory budget refuses to reserve bytes for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BudgetExceeded {
    /// With the refused share, all clients together would exceed the budget.
    All,
    /// With the refused share, the client would take more of the budget than one client may take.
    OfClient(Client, usize),
}

impl Budget {
    /// Creates a budget, such as of bytes: all clients together may take up to `max`, and each client may take up to
    /// `max_per_client`.
    pub(crate) fn new(max: usize, max_per_client: usize) -> Self {
        Self { max, max_per_client, taken: Arc::default() }
    }

    pub(crate) fn taken_amount(&self) -> usize {
        self.taken.lock().total
    }

    pub(crate) fn max_per_client(&self) -> usize {
        self.max_per_client
    }

    /// Takes an amount from the budget for a client. Dropping the returned share gives the amount back to the budget.
    pub(crate) fn take(&self, client: Option<Client>, amount: usize) -> Result<Share, BudgetExceeded> {
        let mut share = Share { budget: self.clone(), client, amount: 0 };
        share.resize(amount)?;
        Ok(share)
    }

    /// Takes a share of flexible size from the budget: at most `max`, and at least the smaller of `min` and the maximum for one
    /// client.
    pub(crate) fn take_flexible(
        &self,
        client: Option<Client>,
        min: usize,
        max: usize,
    ) -> Result<Share, BudgetExceeded> {
        let min = min.min(self.max_per_client);
        let amount = self.add(client.as_ref(), min, max.max(min))?;
        Ok(Share { budget: self.clone(), client, amount })
    }

    /// Takes an amount from `min` to `max` out of the budget, and returns the amount. If `client` is `None`, only the maximum
    /// for all clients applies.
    fn add(&self, client: Option<&Client>, min: usize, max: usize) -> Result<usize, BudgetExceeded> {
        let mut taken_amounts = self.taken.lock();
        let free_amount = self.max.saturating_sub(taken_amounts.total);
        let amount_of_client = |client| taken_amounts.by_client.get(client).copied().unwrap_or(0);
        let free_for_client =
            client.map_or(free_amount, |client| self.max_per_client.saturating_sub(amount_of_client(client)));
        let amount = (free_amount.min(free_for_client) / FLEXIBLE_SHARE_DIVISOR).clamp(min, max);
        match client {
            _ if amount > free_amount => return Err(BudgetExceeded::All),
            Some(client) if amount > free_for_client => {
                return Err(BudgetExceeded::OfClient(client.clone(), self.max_per_client));
            }
            _ => taken_amounts.add(client, amount),
        }
        Ok(amount)
    }
}

#[must_use = "dropping a share returns its amount to the budget"]
pub(crate) struct Share {
    budget: Budget,
    client: Option<Client>,
    amount: usize,
}

impl Share {
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Changes how much of the budget this share takes. If the budget has too little left, `resize` returns an error, and the
    /// share stays unchanged.
    pub(crate) fn resize(&mut self, amount: usize) -> Result<(), BudgetExceeded> {
        if amount > self.amount {
            let added_amount = amount - self.amount;
            self.budget.add(self.client.as_ref(), added_amount, added_amount)?;
        } else if amount < self.amount {
            self.budget.taken.lock().subtract(self.client.as_ref(), self.amount - amount);
        }
        self.amount = amount;
        Ok(())
    }

    /// Changes how much of the memory budget this share takes, even if the budget is exceeded, because the memory is already in
    /// use. A budget that is exceeded hands out no memory until enough memory is returned.
    pub(crate) fn force_resize(&mut self, amount: usize) {
        if amount > self.amount {
            self.budget.taken.lock().add(self.client.as_ref(), amount - self.amount);
            self.amount = amount;
        } else {
            // `resize` can't fail when it reduces the share of the budget.
            let _ = self.resize(amount);
        }
    }

    /// Returns a new share of the same budget and client, with the amount 0.
    pub(crate) fn create_empty_share_of_same_client(&self) -> Self {
        Self { budget: self.budget.clone(), client: self.client.clone(), amount: 0 }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // `resize` can't fail when it reduces the share of the budget.
        let _ = self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_share_of_a_budget_is_free_for_other_clients() {
        let budget = Budget::new(2, 1);
        let (first, second) = (budget.take(None, 1).ok(), budget.take(None, 1).ok());
        assert!(first.is_some() && second.is_some());
        assert_eq!((budget.take(None, 1).err(), budget.taken_amount()), (Some(BudgetExceeded::All), 2));
        drop(first);
        assert!(budget.take(None, 1).is_ok());
        drop(second);
        assert_eq!(budget.taken_amount(), 0);
    }

    #[test]
    fn client_gets_at_most_its_part_of_a_budget_and_refused_share_stays_unchanged() {
        let memory = Budget::new(100, 25);
        let client = |last: u8| Some(Client::Address([192, 0, 2, last].into()));
        let mut one = memory.take(client(1), 10).ok().unwrap();
        let mut sibling_share = one.create_empty_share_of_same_client();
        assert_eq!(sibling_share.resize(16), Err(BudgetExceeded::OfClient(client(1).unwrap(), 25)));
        assert!(sibling_share.resize(15).is_ok() && one.resize(11).is_err());
        assert_eq!((one.amount(), sibling_share.amount(), memory.taken_amount()), (10, 15, 25));
        let other_shares: Vec<_> = (2..5).map(|last| memory.take(client(last), 25).ok().unwrap()).collect();
        assert_eq!(memory.take(client(9), 1).err(), Some(BudgetExceeded::All));
        drop((one, other_shares));
        assert!(sibling_share.resize(3).is_ok());
        assert_eq!(memory.taken_amount(), 3);
        drop(sibling_share);
        assert!(memory.taken.lock().by_client.is_empty());
    }

    #[test]
    fn flexible_share_is_a_part_of_the_free_amount_and_memory_in_use_may_exceed_the_budget() {
        let memory = Budget::new(2_000, 800);
        let client = || Some(Client::Address([192, 0, 2, 1].into()));
        let large_share = memory.take_flexible(client(), 10, 80).ok().unwrap();
        let mut next_share = memory.take_flexible(client(), 10, 800).ok().unwrap();
        assert_eq!((large_share.amount(), next_share.amount()), (80, 90), "an eighth of the free amount");
        next_share.force_resize(5_000);
        assert_eq!(memory.taken_amount(), 5_080);
        assert_eq!(memory.take_flexible(client(), 10, 80).err(), Some(BudgetExceeded::All));
        assert_eq!(memory.take(None, 1).err(), Some(BudgetExceeded::All));
        next_share.force_resize(790);
        assert_eq!(
            memory.take_flexible(client(), 10, 80).err(),
            Some(BudgetExceeded::OfClient(client().unwrap(), 800))
        );
        drop((large_share, next_share));
        let whole_share = memory.take_flexible(client(), 1_000, 1_000).ok().unwrap();
        assert_eq!(whole_share.amount(), 800, "the maximum for one client");
    }
}
