//! The API key of the request, which a client such as the dashboard reads to know what it may do.

use axum::Json;
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::key::KeyRights,
    auth::{caller::Caller, endpoint::RequiredScope},
    request::NoQuery,
};

pub(super) fn register(routes: Routes) -> Routes {
    routes.tag("keys").add(RequiredScope::AnyKey, &[], routes!(read_key))
}

/// Read the rights of the API key
///
/// Any valid key may read its own scopes and queues. If the API has no keys, the response lists all scopes, and `id` is null.
#[utoipa::path(
    get, path = "/v1/key", responses((status = 200, description = "The rights of the key", body = KeyRights)),
)]
async fn read_key(caller: Caller, _: NoQuery) -> Json<KeyRights> {
    Json(KeyRights::from_key(caller.api_key()))
}
