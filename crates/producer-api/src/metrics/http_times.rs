use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::{Method, StatusCode};
use queue_core::Histogram;
use service::metrics::{Kind, Page};

/// More routes than the router will ever have: a table with room finds fast.
const ROUTES: usize = 256;

/// What is no route.
const UNMATCHED: &str = "unmatched";

/// The methods that have a word of their own; what else a client may send is `other`.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The last one stands for requests whose client had gone before there was an answer.
const STATUS_CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const BOUNDS: &[Duration] = &[
    Duration::from_micros(500),
    ms(1),
    Duration::from_micros(2_500),
    ms(5),
    ms(10),
    ms(25),
    ms(50),
    ms(100),
    ms(250),
    ms(500),
    ms(1_000),
    ms(2_500),
    ms(5_000),
    ms(10_000),
    ms(30_000),
    ms(60_000),
];

/// How long requests took, by route, method and class of status.
///
/// A table that is only ever added to, at most once for each route: a look-up takes no lock and allocates nothing.
pub(super) struct HttpTimes {
    routes: Box<[OnceLock<Box<Route>>]>,
    unmatched: Route,
    hasher: RandomState,
    in_flight: AtomicU64,
}

struct Route {
    template: Box<str>,
    /// By method, and in it by class of status.
    times: [[OnceLock<Histogram>; STATUS_CLASSES.len()]; METHODS.len() + 1],
}

impl Route {
    fn new(template: &str) -> Self {
        Self { template: template.into(), times: Default::default() }
    }
}

impl Default for HttpTimes {
    fn default() -> Self {
        let routes = (0..ROUTES).map(|_| OnceLock::new()).collect();
        Self { routes, unmatched: Route::new(UNMATCHED), hasher: RandomState::new(), in_flight: AtomicU64::new(0) }
    }
}

impl HttpTimes {
    /// A request has come.
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request that has come is over.
    pub(super) fn end(&self, template: Option<&str>, method: &Method, status: Option<StatusCode>, took: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        let method = METHODS.iter().position(|known| known == method).unwrap_or(METHODS.len());
        let none = STATUS_CLASSES.len() - 1;
        let class = status.map_or(none, |status| usize::from(status.as_u16() / 100 - 1).min(none));
        let route = template.map_or(&self.unmatched, |template| self.route(template));
        route.times[method][class].get_or_init(|| Histogram::new(BOUNDS)).observe(took);
    }

    fn route(&self, template: &str) -> &Route {
        // It is below ROUTES, and so fits.
        let start = usize::try_from(self.hasher.hash_one(template) % ROUTES as u64).unwrap_or_default();
        for place in (start..ROUTES).chain(0..start) {
            let route = self.routes[place].get_or_init(|| Box::new(Route::new(template)));
            // Otherwise the place is another's, maybe since just now.
            if *route.template == *template {
                return route;
            }
        }
        &self.unmatched
    }

    pub(super) fn write(&self, page: &mut Page) {
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        page.gauge("drover_http_requests_in_flight", "Requests under way, those that wait among them.", in_flight);
        let help = "How long requests took until their answer began, waits included.";
        let mut family = page.family("drover_http_request_duration_seconds", Kind::Histogram, help);
        let known = self.routes.iter().filter_map(OnceLock::get).map(|route| &**route);
        for route in known.chain([&self.unmatched]) {
            let methods = METHODS.iter().map(Method::as_str).chain(["other"]);
            for (method, times) in methods.zip(&route.times) {
                for (status, times) in STATUS_CLASSES.into_iter().zip(times) {
                    let Some(times) = times.get() else { continue };
                    family.histogram(&[("route", &route.template), ("method", method), ("status", status)], times);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_templates_there_are_the_table_is_bounded() {
        let times = HttpTimes::default();
        for n in 0..2 * ROUTES {
            let template = format!("/{n}");
            times.begin();
            times.end(Some(&template), &Method::GET, Some(StatusCode::OK), ms(1));
        }
        let count = |route: &Route| route.times[0][1].get().map_or(0, |times| times.buckets().last().unwrap().1);
        let known = times.routes.iter().filter_map(OnceLock::get).map(|route| count(route)).collect::<Vec<_>>();
        assert_eq!(known, [1; ROUTES]);
        assert_eq!(count(&times.unmatched), ROUTES as u64);
        assert_eq!(times.in_flight.into_inner(), 0);
    }

    #[test]
    fn a_method_of_a_clients_own_and_a_client_that_left_have_words() {
        let times = HttpTimes::default();
        let method = Method::from_bytes(b"MADEUP").unwrap();
        times.begin();
        times.end(None, &method, None, ms(1));
        assert!(times.unmatched.times[METHODS.len()][STATUS_CLASSES.len() - 1].get().is_some());
    }
}
