//! The schemas of settings in responses and in requests, which derive from the schema of [`Settings`].

use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AnyOfBuilder, Object, ObjectBuilder, Type},
    },
};

use crate::settings::{
    Settings,
    patch::{SETTING_WITH_NULL_AS_VALUE, SettingsPatch},
};

/// The schema of settings in responses: all settings, with durations in milliseconds.
pub(crate) struct ShownSettings;

impl PartialSchema for ShownSettings {
    fn schema() -> RefOr<Schema> {
        let mut schema = Settings::schema();
        convert_to_response(&mut schema);
        if let RefOr::T(Schema::Object(settings)) = &mut schema {
            settings.description = Some("All settings; durations in milliseconds".into());
            settings.examples = vec![default_settings_json()];
        }
        schema
    }
}

impl ToSchema for ShownSettings {
    fn name() -> std::borrow::Cow<'static, str> {
        "Settings".into()
    }
}

impl PartialSchema for SettingsPatch {
    fn schema() -> RefOr<Schema> {
        let mut schema = Settings::schema();
        if let RefOr::T(Schema::Object(settings)) = &mut schema {
            permit_null(settings, &default_settings_json());
            settings.description =
                Some("A merge patch: a setting that it does not name stays, and a null restores the default".into());
            let limit = serde_json::json!({"max": 100, "duration": "1s"});
            settings.examples =
                vec![serde_json::json!({"max_attempts": 5, "rate_limit": limit, "retention": {"failed": null}})];
        }
        schema
    }
}

impl ToSchema for SettingsPatch {}

fn default_settings_json() -> Value {
    serde_json::to_value(Settings::default()).expect("settings have a JSON form")
}

/// If a type and its field both have a description, utoipa derives `allOf` with two schemas; the second has only the field's
/// description. `merge_descriptions` moves the field's description to the schema of the type, and drops the schema that has only
/// the description.
fn merge_descriptions(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::AllOf(all)) = schema else { return };
    let [first, RefOr::T(Schema::Object(words))] = &mut all.items[..] else { return };
    match first {
        RefOr::T(Schema::Object(first)) => first.description = words.description.take(),
        RefOr::T(Schema::AnyOf(first)) => first.description = words.description.take(),
        _ => return,
    }
    *schema = first.clone();
}

/// Converts the schema of a request to that of a response: alternatives that are texts (such as "5s" for
/// 5000) are removed, and all members are required.
fn convert_to_response(schema: &mut RefOr<Schema>) {
    merge_descriptions(schema);
    match schema {
        RefOr::T(Schema::Object(object)) => {
            object.additional_properties = None;
            object.required = object.properties.keys().cloned().collect();
            object.properties.values_mut().for_each(convert_to_response);
        }
        RefOr::T(Schema::AnyOf(any)) => {
            let description = any.description.clone();
            let is_text = |item: &RefOr<Schema>| matches!(item, RefOr::T(Schema::Object(object)) if object.schema_type == Type::String.into());
            any.items.retain(|item| !is_text(item));
            any.examples.clear();
            any.items.iter_mut().for_each(convert_to_response);
            if let [RefOr::T(Schema::Object(only))] = &mut any.items[..] {
                only.description = description;
                *schema = Schema::Object(only.clone()).into();
            }
        }
        RefOr::T(Schema::OneOf(one)) => one.items.iter_mut().for_each(convert_to_response),
        _ => {}
    }
}

/// Permits null for each setting; a null restores its default. The description states the default, because generators of client
/// types treat a field with a `default` as always present.
fn permit_null(object: &mut Object, defaults: &Value) {
    object.required.clear();
    for (name, property) in &mut object.properties {
        let Some(default) = defaults.get(name).filter(|_| name != SETTING_WITH_NULL_AS_VALUE) else { continue };
        merge_descriptions(property);
        match property {
            RefOr::T(Schema::Object(members)) => permit_null(members, default),
            // The schema that utoipa derives for an optional setting permits null. A patch may omit members that the current
            // settings have.
            RefOr::T(Schema::OneOf(optional)) => {
                for item in &mut optional.items {
                    if let RefOr::T(Schema::Object(members)) = item {
                        members.required.clear();
                    }
                }
                continue;
            }
            _ => {}
        }
        let null_schema = ObjectBuilder::new().schema_type(Type::Null);
        let description = format!("null restores the default: {default}");
        *property = AnyOfBuilder::new().item(property.clone()).item(null_schema).description(Some(description)).into();
    }
}
