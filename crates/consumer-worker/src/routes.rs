use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use queue_core::{MessageName, QueueName};
use service::config;

use crate::{Handler, handlers};

/// Which handler gets which messages: by queue, and within it by name; the first route that fits.
#[derive(Clone, Default)]
pub struct Routes {
    queues: BTreeMap<QueueName, QueueRoutes>,
}

/// The routes of one queue.
#[derive(Clone, Default)]
pub(crate) struct QueueRoutes {
    routes: Vec<(Option<MessageName>, Arc<dyn Handler>)>,
    /// The names that no route takes, as far as they were told.
    told: Arc<Mutex<HashSet<String>>>,
}

impl Routes {
    /// Those of a configuration.
    pub fn from_config(routes: &[config::Route]) -> Self {
        let mut all = Self::default();
        for route in routes {
            let handler = match &route.handler {
                config::Handler::Log { result } => Arc::new(handlers::Log::new(result)),
            };
            all = all.route(route.queue.clone(), route.name.clone(), handler);
        }
        all
    }

    /// Adds a route: messages of this queue, of this name only if one is given.
    #[must_use]
    pub fn route(mut self, queue: QueueName, name: Option<MessageName>, handler: Arc<dyn Handler>) -> Self {
        self.queues.entry(queue).or_default().routes.push((name, handler));
        self
    }

    /// The queues that any route names.
    pub fn queues(&self) -> Vec<&QueueName> {
        self.queues.keys().collect()
    }

    pub(crate) fn into_queues(self) -> impl Iterator<Item = (QueueName, QueueRoutes)> {
        self.queues.into_iter()
    }
}

impl QueueRoutes {
    /// How many names without a route are told; producers may make up any number.
    const MAX_TOLD: usize = 1_000;

    /// Whether it is told for the first time that no route takes this name.
    pub(crate) fn is_told_first(&self, name: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < Self::MAX_TOLD && told.insert(name.to_owned())
    }

    pub(crate) fn handler(&self, name: Option<&MessageName>) -> Option<&Arc<dyn Handler>> {
        let fits = |of: &Option<MessageName>| of.as_ref().is_none_or(|of| Some(of) == name);
        self.routes.iter().find(|(of, _)| fits(of)).map(|(_, handler)| handler)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_route_that_fits_gets_the_message() {
        let handlers: Vec<Arc<dyn Handler>> = (0..3).map(|n| Arc::new(handlers::Log::new(&n.into())) as _).collect();
        let (queue, a): (QueueName, MessageName) = ("q".parse().unwrap(), "a".parse().unwrap());
        let routes = Routes::default().route(queue.clone(), Some(a.clone()), Arc::clone(&handlers[0])).route(
            queue.clone(),
            Some("b".parse().unwrap()),
            Arc::clone(&handlers[1]),
        );
        let of_queue = |routes: &Routes| routes.clone().into_queues().next().unwrap().1;
        assert!(Arc::ptr_eq(of_queue(&routes).handler(Some(&a)).unwrap(), &handlers[0]));
        assert!(of_queue(&routes).handler(None).is_none());
        let routes = routes.route(queue, None, Arc::clone(&handlers[2]));
        assert!(Arc::ptr_eq(of_queue(&routes).handler(None).unwrap(), &handlers[2]));
        assert!(Arc::ptr_eq(of_queue(&routes).handler(Some(&a)).unwrap(), &handlers[0]));
    }
}
