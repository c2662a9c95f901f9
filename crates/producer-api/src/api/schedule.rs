//! The definitions of schedules as request bodies, and the list of schedules.

use queue_core::{
    ScheduleName,
    schedule::{NewSchedule, Schedule},
};
use serde::{Deserialize, Serialize};
use service::{Code, FieldError};
use utoipa::{IntoParams, ToSchema};

use super::{Limit, json::Body, message::field_error};
use crate::request::query;

impl Body for NewSchedule {
    const INVALID_BODY_CODE: Code = Code::InvalidSchedule;

    fn check(&self) -> Result<(), FieldError> {
        self.contradiction().map_or(Ok(()), |invalid| Err(field_error(invalid)))
    }
}

/// A page of schedules.
#[derive(Serialize, ToSchema)]
pub(crate) struct SchedulePage {
    pub(crate) schedules: Vec<Schedule>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, inline)]
    pub(crate) next_cursor: Option<ScheduleName>,
}

/// The query of a list of schedules.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ScheduleQuery {
    /// The maximum number of schedules; 50 if absent.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    pub(crate) limit: Option<Limit>,
    /// The `next_cursor` of the previous page.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline, value_type = Option<ScheduleName>)]
    pub(crate) cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json;

    #[test]
    fn invalid_schedule_is_reported_with_the_field_and_the_expected_value() {
        for (body, pointer, expected) in [
            (r#"{"cron":"* * * *","message":{"data":1}}"#, "/cron", "must have five fields"),
            (r#"{"cron":"61 * * * *","message":{"data":1}}"#, "/cron", "its minute is \"61\""),
            (r#"{"cron":"0 0 30 2 *","message":{"data":1}}"#, "/cron", "never matches"),
            (r#"{"cron":5,"message":{"data":1}}"#, "/cron", "must be a text"),
            (r#"{"cron":"@daily","timezone":"Mars/Olympus","message":{"data":1}}"#, "/timezone", "IANA"),
            (r#"{"cron":"@daily","every":"5m","message":{"data":1}}"#, "/every", "not both"),
            (r#"{"message":{"data":1}}"#, "/cron", "required: give cron or every"),
            (r#"{"every":999,"message":{"data":1}}"#, "/every", "must be 1s to 3650d"),
            (r#"{"every":"5m","offset":"5m","message":{"data":1}}"#, "/offset", "must be shorter than every"),
            (r#"{"every":"5m"}"#, "/message", "required"),
            (r#"{"every":"5m","message":{}}"#, "/message/data", "required"),
            (r#"{"every":"5m","message":[1]}"#, "/message", "must be an object"),
            (r#"{"every":"5m","message":{"dta":1}}"#, "/message/dta", "did you mean \"data\"?"),
            (r#"{"every":"5m","message":{"data":1,"priority":1.5}}"#, "/message/priority", "a whole number"),
            (r#"{"every":"5m","message":{"data":1,"id":"a"}}"#, "/message/id", "remove it"),
            (r#"{"every":"5m","message":{"data":1,"delay":1}}"#, "/message/delay", "remove it"),
            (
                r#"{"every":"5m","message":{"data":1,"deliver_at":"2030-01-01T00:00:00Z"}}"#,
                "/message/deliver_at",
                "remove it",
            ),
            (r#"{"every":"5m","message":{"data":1},"max_runs":0}"#, "/max_runs", "from 1 to 1000000000"),
            (r#"{"every":"5m","message":{"data":1},"missed":"some"}"#, "/missed", "expected one of skip, one, all"),
            (r#"{"every":"5m","message":{"data":1},"overlap":"wait"}"#, "/overlap", "expected one of allow, skip"),
            (
                r#"{"every":"5m","message":{"data":1},"missed":1}"#,
                "/missed",
                "it is 1, and must be one of skip, one, all",
            ),
            (r#"{"every":"5m","message":{"data":1},"missed":true}"#, "/missed", "it is true, and must be one of skip"),
            (
                r#"{"every":"5m","message":{"data":1},"overlap":["skip"]}"#,
                "/overlap",
                "a list, and must be one of allow, skip",
            ),
            (r#"{"every":"5m","message":{"data":1},"overlap":{"skip":null}}"#, "/overlap", "it is an object, and must"),
            (
                r#"{"every":"5m","message":{"data":1,"backoff":{"type":1.5}}}"#,
                "/message/backoff/type",
                "it is 1.5, and must be one of fixed, exponential",
            ),
            (
                r#"{"every":"5m","message":{"data":1,"x":1}}"#,
                "/message/x",
                "unknown; expected one of data, name, group, priority, max_attempts, backoff, timeout, ttl, hold, headers",
            ),
            (
                r#"{"every":"5m","message":{"data":1,"deliverAt":1}}"#,
                "/message/deliverAt",
                "unknown; expected one of data",
            ),
            (r#"{"cron":"0 0 * * mon,L","message":{"data":1}}"#, "/cron", "5L or friL"),
            (r#"{"evry":"5m","message":{"data":1}}"#, "/evry", "did you mean \"every\"?"),
            (r#"{"every":"5m","message":{"data":1},"start_at":"soon"}"#, "/start_at", "RFC 3339"),
        ] {
            let problem = json::parse_body::<NewSchedule>(body.as_bytes()).unwrap_err();
            let error = &problem.errors()[0];
            assert_eq!((problem.code(), error.pointer.as_str()), (Code::InvalidSchedule, pointer), "{body}");
            assert!(error.detail.contains(expected), "{body}: {}", error.detail);
        }
    }
}
