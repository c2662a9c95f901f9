//! The routes, one file for each resource, and what they read from paths and queries.

mod about;
mod changes;
mod events;
mod leases;
mod list;
mod messages;
mod ndjson;
mod queues;
mod registry;
mod signals;

use std::{borrow::Cow, fmt::Display};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{Uri, request::Parts},
};
use percent_encoding::percent_decode_str;
use queue_core::{MessageRef, Millis, QueueName, SignalKey, State};
use service::{Problem, unknown};
use tower_http::timeout::TimeoutLayer;

use crate::{App, json::cut, refusal};

use registry::Routes;
pub(crate) use registry::{Endpoint, Endpoints, Needs};

/// All routes. A request to most may take so long.
pub(crate) fn all(time_limit: TimeoutLayer) -> Routes {
    let resources = [
        queues::register,
        events::register,
        leases::register,
        list::register,
        messages::register,
        changes::register,
        signals::register,
        about::register,
    ];
    resources.into_iter().fold(Routes::new(time_limit), |routes, register| register(routes))
}

/// A parameter of the path, or nothing where the path has none of that name.
async fn path_parameter(parts: &mut Parts, name: &str) -> Result<String, Problem> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(all) => Ok(all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()),
        // It names the parameter whose encoding is wrong, whichever is asked for. A queue's name is told what it may be.
        Err(rejection) => match rejection.body_text() {
            text if text.contains("`id`") => Err(refusal::invalid_id(NOT_UTF_8)),
            text if text.contains("`key`") => Err(refusal::invalid_signal_key(NOT_UTF_8)),
            _ => Ok(String::new()),
        },
    }
}

const NOT_UTF_8: &str = "what is percent-encoded in the path must be UTF-8";

/// `{queue}` of the path.
pub(crate) struct QueuePath(pub(crate) QueueName);

impl<S: Sync> FromRequestParts<S> for QueuePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_parameter(parts, "queue").await?.parse().map(Self).map_err(refusal::invalid_queue_name)
    }
}

/// `{id}` of the path.
pub(crate) struct IdPath(pub(crate) MessageRef);

impl<S: Sync> FromRequestParts<S> for IdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let id = path_parameter(parts, "id").await?;
        id.parse().map(Self).map_err(refusal::invalid_id)
    }
}

/// `{key}` of the path.
pub(crate) struct KeyPath(pub(crate) SignalKey);

impl<S: Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_parameter(parts, "key").await?.parse().map(Self).map_err(refusal::invalid_signal_key)
    }
}

/// The parameters of the query with these names, each at most once. Another one is a mistake.
fn query<const N: usize>(uri: &Uri, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(value)?);
        let Some(place) = names.iter().position(|known| *known == name) else {
            let known = unknown(&name, names);
            return Err(refusal::invalid_query(format_args!("the query parameter \"{}\" is {known}", cut(&name))));
        };
        if values[place].replace(value).is_some() {
            return Err(refusal::invalid_query(format_args!("the query parameter {name} stands twice; give it once")));
        }
    }
    Ok(values)
}

/// A name or value of the query, as forms encode them.
fn decoded(text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| refusal::invalid_query("what is percent-encoded in the query must be UTF-8"))
}

/// `?wait=20s`
pub(crate) struct Wait(pub(crate) Option<Millis>);

impl FromRequestParts<App> for Wait {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let [wait] = query(&parts.uri, ["wait"])?;
        let invalid = |why: &dyn Display| refusal::invalid_query(format_args!("wait {why}"));
        let wait: Option<Millis> = wait.map(|wait| wait.parse()).transpose().map_err(|error| invalid(&error))?;
        let longest = app.shared.max_wait;
        if wait.is_some_and(|wait| wait > longest) {
            return Err(invalid(&refusal::longest_wait(longest)));
        }
        Ok(Self(wait))
    }
}

/// `?state=failed` of a purge.
pub(crate) struct PurgedState(pub(crate) State);

impl<S: Sync> FromRequestParts<S> for PurgedState {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [state] = query(&parts.uri, ["state"])?;
        match state.map(|word| word.parse()) {
            Some(Ok(State::Active)) => Err(refusal::active_is_not_purged()),
            Some(Ok(state)) => Ok(Self(state)),
            None | Some(Err(_)) => Err(refusal::purge_of_which_state()),
        }
    }
}

/// `?confirm={queue}` of what can't be undone.
pub(crate) struct Confirmed(pub(crate) String);

impl<S: Sync> FromRequestParts<S> for Confirmed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [confirm] = query(&parts.uri, ["confirm"])?;
        confirm.map(Self).ok_or_else(refusal::confirm_is_required)
    }
}

/// No query at all: a parameter that nobody reads is a mistake.
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(refusal::invalid_query("this endpoint takes no query parameters")),
        }
    }
}
