//! Settlements: requests by which consumers end or extend leases.

use queue_core::{Action, LeaseToken, Queue, SignalKey, read_word};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use service::{Code, FieldError};
use strum::{EnumString, VariantNames};
use utoipa::ToSchema;

use super::{
    Delay, LeaseTime,
    failure_reason::Reason,
    json::{self, Body},
};

/// Completes a message: the work on the message is done.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Complete {
    lease: LeaseToken,
    #[serde(rename = "action")]
    _action: Option<CompleteAction>,
    /// The result: any JSON up to 65536 bytes.
    #[schema(value_type = Option<Value>)]
    result: Option<Box<RawValue>>,
}

/// Ends an attempt as failed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fail {
    lease: LeaseToken,
    #[serde(rename = "action")]
    _action: Option<FailAction>,
    /// The reason why the attempt failed: a text, or an object with a code and a message.
    error: Option<Reason>,
    /// `false` if no further attempt can succeed; `true` if absent.
    retry: Option<bool>,
    /// The pause before the next attempt, instead of the back-off; not allowed with `retry: false`.
    #[schema(inline)]
    retry_after: Option<Delay>,
}

/// Releases a message on which no attempt was made. The message returns to the head of the waiting list, or becomes delayed by
/// `delay`, or held for the signal `hold`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    lease: LeaseToken,
    #[serde(rename = "action")]
    _action: Option<ReleaseAction>,
    /// The time until the message may be leased again; excludes `hold`; 0 if absent.
    #[schema(inline)]
    delay: Option<Delay>,
    /// The key of the signal that the message waits for; excludes `delay`. If an earlier sticky signal with the hold key still
    /// lasts, that signal releases the message at once.
    #[schema(inline)]
    hold: Option<SignalKey>,
}

/// Extends a lease.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extend {
    pub(crate) lease: LeaseToken,
    #[serde(rename = "action")]
    _action: Option<ExtendAction>,
    /// The time for which the lease lasts from now on; if absent, the visibility timeout with which the message was leased.
    #[schema(inline)]
    pub(crate) visibility_timeout: Option<LeaseTime>,
    /// The progress of the work: any JSON up to 65536 bytes.
    #[serde(default, deserialize_with = "Queue::deserialize_progress")]
    #[schema(value_type = Option<Value>)]
    pub(crate) progress: Option<Box<RawValue>>,
}

/// The `action` of each kind of settlement, by which the settlements in a list are distinguished.
macro_rules! actions {
    ($($name:ident = $variant:ident),*) => {
        $(
            #[derive(Debug, Clone, Copy, EnumString, VariantNames, ToSchema)]
            #[strum(serialize_all = "snake_case")]
            #[schema(rename_all = "snake_case")]
            enum $name {
                $variant,
            }

            impl<'de> Deserialize<'de> for $name {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    read_word(deserializer)
                }
            }
        )*
    };
}

actions!(CompleteAction = Complete, FailAction = Fail, ReleaseAction = Release, ExtendAction = Extend);

/// Leases to settle or extend, each independently of the other leases.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"settlements": [
    {"lease": "21759559372713-mY9hV1Qb0mX3cG7n2sKk5A", "action": "complete", "result": 1},
]})))]
pub(crate) struct Settle {
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) settlements: Vec<Settlement>,
}

impl Body for Settle {
    const INVALID_BODY_CODE: Code = Code::InvalidSettlement;

    fn check(&self) -> Result<(), FieldError> {
        self.settlements.iter().enumerate().try_for_each(|(index, settlement)| {
            let check_result = match settlement {
                Settlement::Fail(fail) => fail.check(),
                Settlement::Release(release) => release.check(),
                Settlement::Complete(_) | Settlement::Extend(_) => Ok(()),
            };
            check_result.map_err(|error| error.with_parent_pointer(&format!("/settlements/{index}")))
        })
    }
}

/// The settlement or the extension of one lease in a list.
#[derive(Debug, ToSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum Settlement {
    Complete(Complete),
    Fail(Fail),
    Release(Release),
    Extend(Extend),
}

/// `Deserialize` is not derived for `Settlement`, because derived code buffers the value to find the action, and then
/// `RawValue` fields can't be read.
impl<'de> Deserialize<'de> for Settlement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(EnumString, VariantNames)]
        #[strum(serialize_all = "snake_case")]
        enum ActionName {
            Complete,
            Fail,
            Release,
            Extend,
        }
        #[derive(Deserialize)]
        struct TaggedAction {
            #[serde(deserialize_with = "read_word")]
            action: ActionName,
        }
        let json = <&RawValue>::deserialize(deserializer)?;
        let settlement = json::parse_part(json).and_then(|TaggedAction { action }| match action {
            ActionName::Complete => json::parse_part(json).map(Self::Complete),
            ActionName::Fail => json::parse_part(json).map(Self::Fail),
            ActionName::Release => json::parse_part(json).map(Self::Release),
            ActionName::Extend => json::parse_part(json).map(Self::Extend),
        });
        settlement.map_err(de::Error::custom)
    }
}

impl Body for Complete {
    const INVALID_BODY_CODE: Code = Code::InvalidSettlement;
}

impl Body for Fail {
    const INVALID_BODY_CODE: Code = Code::InvalidSettlement;

    fn check(&self) -> Result<(), FieldError> {
        if self.retry == Some(false) && self.retry_after.is_some() {
            let detail = "give either retry: false or retry_after, not both";
            return Err(FieldError { pointer: "/retry_after".into(), detail: detail.into() });
        }
        Ok(())
    }
}

impl Body for Release {
    const INVALID_BODY_CODE: Code = Code::InvalidSettlement;

    fn check(&self) -> Result<(), FieldError> {
        if self.delay.is_some() && self.hold.is_some() {
            let detail = "give either delay or hold, not both";
            return Err(FieldError { pointer: "/hold".into(), detail: detail.into() });
        }
        Ok(())
    }
}

impl Body for Extend {
    const INVALID_BODY_CODE: Code = Code::InvalidSettlement;
}

pub(crate) enum LeaseAction {
    End(queue_core::Settlement),
    Extend(Extend),
}

impl From<Settlement> for LeaseAction {
    fn from(settlement: Settlement) -> Self {
        let (lease, action) = match settlement {
            Settlement::Extend(extend) => return Self::Extend(extend),
            Settlement::Complete(Complete { lease, result, .. }) => {
                (lease, Action::Complete(result.unwrap_or_else(|| RawValue::NULL.to_owned())))
            }
            Settlement::Fail(Fail { lease, error, retry, retry_after, .. }) => {
                let failure = error.unwrap_or_default().into();
                let action = match (retry, retry_after) {
                    (Some(false), _) => Action::FailForGood(failure),
                    (_, Some(pause)) => Action::FailAndRetryAfter(failure, *pause),
                    (_, None) => Action::Fail(failure),
                };
                (lease, action)
            }
            Settlement::Release(Release { lease, hold: Some(key), .. }) => (lease, Action::Hold(key)),
            Settlement::Release(Release { lease, delay, .. }) => (lease, Action::Release(delay.map(|delay| *delay))),
        };
        Self::End(queue_core::Settlement { lease, action })
    }
}

#[cfg(test)]
mod tests {
    use queue_core::{Failure, Millis};
    use service::Problem;

    use super::*;

    const LEASE_TOKEN: &str = "21718923400017-AAAAAAAAAAAAAAAAAAAAAA";

    fn read(action: &str, fields: &str) -> Result<Settlement, Problem> {
        let body = format!(r#"{{"lease":"{LEASE_TOKEN}"{fields}}}"#).into_bytes();
        match action {
            "complete" => json::parse_body(&body).map(Settlement::Complete),
            "fail" => json::parse_body(&body).map(Settlement::Fail),
            "release" => json::parse_body(&body).map(Settlement::Release),
            _ => json::parse_body(&body).map(Settlement::Extend),
        }
    }

    fn action(action: &str, fields: &str) -> Action {
        match read(action, fields).unwrap().into() {
            LeaseAction::End(end) => end.action,
            LeaseAction::Extend(extend) => panic!("{extend:?}"),
        }
    }

    #[test]
    fn each_action_of_a_settlement_takes_its_own_fields() {
        assert!(matches!(action("complete", r#","result":[1]"#), Action::Complete(r) if r.get() == "[1]"));
        assert!(matches!(action("complete", ""), Action::Complete(r) if r.get() == "null"));
        assert!(matches!(action("fail", r#","error":{"code":"c","message":"m"}"#), Action::Fail(f) if f.code == "c"));
        assert!(matches!(action("fail", r#","retry":false"#), Action::FailForGood(_)));
        let later_failure = action("fail", r#","retry_after":"2s""#);
        assert!(matches!(later_failure, Action::FailAndRetryAfter(_, pause) if pause == Millis::from_secs(2)));
        assert!(matches!(action("release", ""), Action::Release(None)));
        assert!(matches!(action("release", r#","hold":"paid:42""#), Action::Hold(key) if key.as_str() == "paid:42"));
        let Settlement::Extend(extend) = read("extend", r#","progress":7"#).unwrap() else { panic!() };
        assert_eq!((extend.visibility_timeout, extend.progress.unwrap().get()), (None, "7"));
    }

    #[test]
    fn error_of_an_attempt_is_a_text_or_an_object_with_defaults() {
        let failure = |error: &str| match action("fail", &format!(r#","error":{error}"#)) {
            Action::Fail(Failure { code, message }) => (code, message),
            other => panic!("{other:?}"),
        };
        let no_reason = "the consumer gave no reason";
        for (error, code, message) in [
            (r#""boom""#, "failed", "boom"),
            (r#"{"message":"boom"}"#, "failed", "boom"),
            (r#"{"message":"boom","code":null}"#, "failed", "boom"),
            (r#"{"code":"x"}"#, "x", no_reason),
            ("{}", "failed", no_reason),
            ("null", "failed", no_reason),
            (r#"{"code":"x","message":"bad \ud83d"}"#, "x", "bad \u{fffd}"),
            (r#"{"code":"\udc00","message":"\ud83d\ude00"}"#, "\u{fffd}", "😀"),
            (r#""bad \ud83d\ud83d\ude00\n""#, "failed", "bad \u{fffd}😀\n"),
        ] {
            assert_eq!(failure(error), (code.to_owned(), message.to_owned()), "{error}");
        }
    }

    #[test]
    fn field_of_a_settlement_that_is_null_counts_as_absent() {
        for (action, fields) in [
            ("complete", r#","result":null,"action":null"#),
            ("fail", r#","error":null,"retry":null,"retry_after":null"#),
            ("fail", r#","retry":false,"retry_after":null"#),
            ("release", r#","delay":null,"hold":null"#),
            ("release", r#","delay":null,"hold":"k""#),
            ("release", r#","delay":0,"hold":null"#),
            ("extend", r#","visibility_timeout":null,"progress":null"#),
        ] {
            let settlement = read(action, fields).unwrap();
            assert!(!matches!(settlement, Settlement::Extend(Extend { progress: Some(_), .. })), "{fields}");
        }
    }

    #[test]
    fn mistake_in_a_settlement_is_reported_with_its_pointer() {
        for (action, fields, pointer) in [
            ("complete", r#","error":1"#, "/error"),
            ("complete", r#","action":"fail""#, "/action"),
            ("fail", r#","error":5"#, "/error"),
            ("fail", r#","error":["c","m"]"#, "/error"),
            ("fail", r#","error":{"code":5}"#, "/error/code"),
            ("fail", r#","error":{"mesage":"m"}"#, "/error/mesage"),
            ("fail", r#","retry":false,"retry_after":1"#, "/retry_after"),
            ("release", r#","delay":"4000d""#, "/delay"),
            ("release", r#","hold":"a/b""#, "/hold"),
            ("release", r#","hold":5"#, "/hold"),
            ("release", r#","hold":"k","delay":0"#, "/hold"),
            ("extend", r#","visibility_timeout":99"#, "/visibility_timeout"),
        ] {
            assert_eq!(read(action, fields).unwrap_err().errors()[0].pointer, pointer, "{fields}");
        }
        for body in ["{}", r#"{"lease":"x"}"#, r#"{"lease":null,"result":1}"#] {
            let problem = json::parse_body::<Complete>(body.as_bytes()).unwrap_err();
            assert_eq!((problem.code(), problem.errors()[0].pointer.as_str()), (Code::InvalidSettlement, "/lease"));
        }
        for (fields, pointer) in [
            ("", "/settlements/0/action"),
            (r#","action":null"#, "/settlements/0/action"),
            (r#","action":"eat""#, "/settlements/0/action"),
            (r#","action":"fail","error":{"code":5}"#, "/settlements/0/error/code"),
            (r#","action":"fail","result":5"#, "/settlements/0/result"),
            (r#","action":"fail","retry":false,"retry_after":1"#, "/settlements/0/retry_after"),
            (r#","action":"release","hold":"k","delay":1"#, "/settlements/0/hold"),
        ] {
            let many_settlements = format!(r#"{{"settlements":[{{"lease":"{LEASE_TOKEN}"{fields}}}]}}"#);
            let problem = json::parse_body::<Settle>(many_settlements.as_bytes()).err().unwrap();
            assert_eq!(problem.errors()[0].pointer, pointer, "{many_settlements}: {}", problem.detail);
        }
        for (action, found) in
            [("1", "1"), ("null", "null"), ("true", "true"), ("[\"fail\"]", "a list"), ("{\"fail\":1}", "an object")]
        {
            let many_settlements = format!(r#"{{"settlements":[{{"lease":"{LEASE_TOKEN}","action":{action}}}]}}"#);
            let problem = json::parse_body::<Settle>(many_settlements.as_bytes()).err().unwrap();
            assert_eq!(
                problem.errors()[0].detail,
                format!("it is {found}, and must be one of complete, fail, release, extend")
            );
        }
        let problem = read("complete", r#","action":5"#).unwrap_err();
        assert_eq!(problem.errors()[0].detail, "it is 5, and must be complete");
    }
}
