//! Reads headers that may occur only once, and describes optional headers for `OpenAPI`.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use utoipa::openapi::{
    ObjectBuilder, Required, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
};

/// Returns the value of a header that occurs exactly once; `None` if the header is absent or repeated.
pub(crate) fn single_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    Some(value)
}

/// Returns the `OpenAPI` description of a header that may be absent. The description has no example, because the page `/docs`
/// would send the example with every request.
pub(crate) fn optional_header(name: &str, description: &str, pattern: &str) -> Vec<Parameter> {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    vec![parameter.description(Some(description)).schema(Some(schema)).build()]
}
