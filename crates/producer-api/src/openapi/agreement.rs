//! Tests that the `OpenAPI` description agrees with the routes, the error codes and the tables of docs/API.md.

use std::{collections::BTreeSet, time::Duration};

use axum::http::StatusCode;
use queue_core::Millis;
use serde_json::{Value, json};
use service::Code;
use tower_http::timeout::TimeoutLayer;

use super::describe;
use crate::{auth::Access, routes};

fn description(access: Access) -> Value {
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1));
    let (_, routes_description, endpoints) = routes::all(limit).into_parts();
    describe(&routes_description, &endpoints, Millis::from_secs(60), access)
}

/// Returns all operations of a description with their methods and paths.
fn operations(description: &Value) -> Vec<(String, String, &Value)> {
    let paths = description["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    operations.collect()
}

/// Adds every `$ref` of a JSON value to `found`.
fn add_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| add_references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| add_references(item, found)),
        _ => {}
    }
}

#[test]
fn every_error_code_is_in_the_response_of_an_operation() {
    let text = description(Access::Keys)["paths"].to_string();
    // No operation has the response `method_not_allowed`, because the API sends it only for methods without an operation.
    let codes = Code::ALL.iter().filter(|code| **code != Code::MethodNotAllowed);
    let unused_codes: Vec<_> = codes.filter(|code| !text.contains(&format!("problem:{}\"", code.as_str()))).collect();
    assert!(unused_codes.is_empty(), "{unused_codes:?}");
}

#[test]
fn every_openapi_reference_resolves_and_every_operation_has_a_summary() {
    let description = description(Access::Keys);
    let mut found_names = BTreeSet::new();
    add_references(&description, &mut found_names);
    assert!(found_names.len() > 30, "{found_names:?}");
    for reference in found_names {
        assert!(description.pointer(&reference[1..]).is_some(), "{reference}");
    }
    for (method, path, operation) in operations(&description) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        assert!(operation["operationId"].is_string() && operation["tags"][0].is_string(), "{method} {path}");
        assert!(!operation.to_string().contains("\"x-"), "{method} {path}: {operation}");
    }
}

#[test]
fn every_example_of_a_schema_has_all_required_fields() {
    let description = description(Access::Keys);
    let mut check_count = 0;
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            for field in schema["required"].as_array().into_iter().flatten() {
                assert!(example.get(field.as_str().unwrap()).is_some(), "the example of {name} lacks {field}");
                check_count += 1;
            }
        }
    }
    assert!(check_count > 20, "{check_count}");
}

#[test]
fn every_field_of_a_message_of_its_patch_and_of_settings_has_a_row_in_the_api_document() {
    const API_PAGE: &str = include_str!("../../../../docs/API.md");
    let description = description(Access::Keys);
    for (schema, endpoint) in [
        ("NewMessage", "POST {queue}/messages"),
        ("MessagePatch", "PATCH {queue}/messages/{id}"),
        ("SettingsPatch", "PATCH /v1/queues/{queue}"),
    ] {
        let (_, table) = API_PAGE.split_once(&format!("\n`{endpoint}` |")).expect("the endpoint has a table");
        let rows = table.lines().skip(1).take_while(|line| line.contains('|'));
        let first_cells: Vec<&str> = rows.filter_map(|row| row.split('|').next()).collect();
        for field in description["components"]["schemas"][schema]["properties"].as_object().unwrap().keys() {
            let is_documented = first_cells.iter().any(|cell| cell.contains(&format!("`{field}`")));
            assert!(is_documented, "docs/API.md has no row for {field} below {endpoint}");
        }
    }
}

#[test]
fn openapi_document_describes_security_only_if_the_api_has_keys() {
    let (open, keys) = (description(Access::Open), description(Access::Keys));
    assert!(open["components"]["securitySchemes"].is_null() && !open["paths"].to_string().contains("unauthorized"));
    for (method, path, operation) in operations(&keys) {
        assert_eq!(operation["security"].is_array(), path.starts_with("/v1/"), "{method} {path}");
    }
    let post = &keys["paths"]["/v1/queues/{queue}/messages"]["post"];
    assert_eq!(post["security"], json!([{"key": ["enqueue"]}]));
    assert!(post["responses"]["401"]["headers"]["WWW-Authenticate"].is_object());
}
