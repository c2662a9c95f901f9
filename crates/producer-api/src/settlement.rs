//! How a consumer ends or extends a lease: `{"lease": "…", "result": …}` and its kin.

use queue_core::{Action, Due, Failure, LeaseTime, LeaseToken, MAX_RESULT_BYTES, Millis};
use serde::Deserialize;
use serde_json::value::RawValue;
use service::{FieldError, Problem, unknown, wording};

use crate::{
    fields::{Reader, field_error},
    json::{self, Object, is_absent, lossy_text},
    refusal,
};

/// What is done to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    Complete,
    Fail,
    Release,
    Extend,
}

/// What is asked for one lease.
#[derive(Debug)]
pub(crate) enum Deed {
    End(Action),
    Extend { visibility_timeout: Option<Millis>, progress: Option<Box<RawValue>> },
}

/// A lease, and what is done to it.
#[derive(Debug)]
pub(crate) struct Settlement {
    pub(crate) lease: LeaseToken,
    pub(crate) deed: Deed,
}

/// The code of an error for which its consumer names none.
const NO_CODE: &str = "failed";
/// The text of an error for which its consumer has none.
const NO_MESSAGE: &str = "the consumer gave no reason";

/// What a lease's time may be, in words.
const LEASE_RANGE: &str = "must be 100 ms to 24 h";

/// Reads the body of one of the four routes.
pub(crate) fn parse(verb: Verb, body: &[u8]) -> Result<Settlement, Problem> {
    let object = json::object(body)?;
    let mut errors = Vec::new();
    read(Some(verb), &object, "", &mut errors).ok_or_else(|| refusal::invalid_settlement(errors))
}

/// Reads the body of a settlement of many.
pub(crate) fn parse_many(body: &[u8]) -> Result<Vec<Settlement>, Problem> {
    let object = json::object(body)?;
    let settlements =
        json::only_list(&object, "settlements").map_err(|error| refusal::invalid_settlement(vec![error]))?;
    if settlements.is_empty() || settlements.len() > queue_core::MAX_MESSAGES_PER_CALL {
        return Err(refusal::too_many_settlements(settlements.len()));
    }
    let mut errors = Vec::new();
    let mut all = Vec::with_capacity(settlements.len());
    for (n, value) in settlements.iter().enumerate() {
        let pointer = format!("/settlements/{n}");
        match serde_json::from_str::<Object<'_>>(value.get()) {
            Ok(object) => all.extend(read(None, &object, &pointer, &mut errors)),
            Err(error) => errors.push(FieldError { pointer, detail: wording::of_value(&error) }),
        }
    }
    if errors.is_empty() { Ok(all) } else { Err(refusal::invalid_settlement(errors)) }
}

/// The fields as they are read, before it is known what they are for.
#[derive(Default)]
struct Fields {
    lease: Option<LeaseToken>,
    verb: Option<Verb>,
    result: Option<Box<RawValue>>,
    error: Option<Failure>,
    retry: Option<bool>,
    retry_after: Option<Millis>,
    delay: Option<Millis>,
    visibility_timeout: Option<Millis>,
    progress: Option<Box<RawValue>>,
}

/// `None` if anything was added to `errors`.
fn read(verb: Option<Verb>, object: &Object<'_>, pointer: &str, errors: &mut Vec<FieldError>) -> Option<Settlement> {
    let before = errors.len();
    let mut fields = Fields { verb, ..Fields::default() };
    // What may stand there depends on what is done.
    if verb.is_none() {
        if let Some((name, value)) = object.0.iter().find(|(name, value)| name == "action" && !is_absent(value)) {
            fields.verb = Reader { pointer, name, value, errors }.read();
        } else {
            let detail = "required: complete, fail, release or extend";
            errors.push(field_error(pointer, "action", detail.into()));
        }
    }
    let verb_of_fields = fields.verb?;
    let pause_range = "must be at most 3650 days";
    for (name, value) in &object.0 {
        let mut reader = Reader { pointer, name, value, errors };
        let short_enough = |pause: &Millis| if *pause > Due::LONGEST_DELAY { Err(pause_range) } else { Ok(()) };
        match (name.as_ref(), verb_of_fields) {
            ("lease", _) => fields.lease = reader.read(),
            ("action", _) if verb.is_none() => {}
            ("result", Verb::Complete) => fields.result = Some((*value).to_owned()),
            ("error", Verb::Fail) => fields.error = read_failure(&mut reader),
            ("retry", Verb::Fail) => fields.retry = reader.read(),
            ("retry_after", Verb::Fail) => fields.retry_after = reader.read_checked(short_enough),
            ("delay", Verb::Release) => fields.delay = reader.read_checked(short_enough),
            ("visibility_timeout", Verb::Extend) => fields.visibility_timeout = read_lease_time(&mut reader),
            ("progress", Verb::Extend) if value.get().len() > MAX_RESULT_BYTES => {
                errors.push(field_error(pointer, name, format!("must be at most {MAX_RESULT_BYTES} bytes of JSON")));
            }
            ("progress", Verb::Extend) => fields.progress = (!is_absent(value)).then(|| (*value).to_owned()),
            (other, verb) => errors.push(field_error(pointer, other, unknown(other, known(verb).iter().copied()))),
        }
    }
    if !object.0.iter().any(|(name, value)| name == "lease" && !is_absent(value)) {
        errors.push(field_error(pointer, "lease", "required: the token that the lease was answered with".into()));
    }
    if fields.retry == Some(false) && fields.retry_after.is_some() {
        let detail = "give either retry: false or retry_after, not both";
        errors.push(field_error(pointer, "retry_after", detail.into()));
    }
    if errors.len() > before {
        return None;
    }
    let lease = fields.lease.take()?;
    Some(Settlement { lease, deed: fields.deed(verb_of_fields) })
}

/// Why an attempt failed, as the consumer says it: a text, or an object of texts. An error must not be lost because of how it
/// is told, so halves of characters are replaced, and what is not there has a default.
fn read_failure(reader: &mut Reader<'_>) -> Option<Failure> {
    if !reader.value.get().starts_with('{') {
        let text = reader.value;
        let message = reader.read_by(|| lossy_text(text), |_| Ok::<_, &str>(()));
        return message.map(|message| Failure::new(NO_CODE, message));
    }
    let object = reader.read_by(|| serde_json::from_str::<Object<'_>>(reader.value.get()), |_| Ok::<_, &str>(()))?;
    let pointer = format!("{}/{}", reader.pointer, reader.name);
    let (mut code, mut message) = (None, None);
    for (name, value) in &object.0 {
        let mut field = Reader { pointer: &pointer, name, value, errors: reader.errors };
        match name.as_ref() {
            "code" => code = field.read_by(|| lossy_text(value), |_| Ok::<_, &str>(())),
            "message" => message = field.read_by(|| lossy_text(value), |_| Ok::<_, &str>(())),
            other => field.errors.push(field_error(&pointer, other, unknown(other, ["code", "message"]))),
        }
    }
    Some(Failure::new(code.unwrap_or_else(|| NO_CODE.into()), message.unwrap_or_else(|| NO_MESSAGE.into())))
}

/// 100 ms to 24 h.
pub(crate) fn read_lease_time(reader: &mut Reader<'_>) -> Option<Millis> {
    let range = LeaseTime::LEAST..=LeaseTime::MOST;
    reader.read_checked(|time| if range.contains(time) { Ok(()) } else { Err(LEASE_RANGE) })
}

fn known(verb: Verb) -> &'static [&'static str] {
    match verb {
        Verb::Complete => &["lease", "result"],
        Verb::Fail => &["lease", "error", "retry", "retry_after"],
        Verb::Release => &["lease", "delay"],
        Verb::Extend => &["lease", "visibility_timeout", "progress"],
    }
}

impl Fields {
    fn deed(self, verb: Verb) -> Deed {
        let failure = self.error.unwrap_or_else(|| Failure::new(NO_CODE, NO_MESSAGE));
        Deed::End(match verb {
            Verb::Complete => Action::Complete(self.result.unwrap_or_else(|| RawValue::NULL.to_owned())),
            Verb::Fail if self.retry == Some(false) => Action::FailForGood(failure),
            Verb::Fail => match self.retry_after {
                Some(pause) => Action::FailAndRetryAfter(failure, pause),
                None => Action::Fail(failure),
            },
            Verb::Release => Action::Release(self.delay),
            Verb::Extend => {
                return Deed::Extend { visibility_timeout: self.visibility_timeout, progress: self.progress };
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: &str = "21718923400017-AAAAAAAAAAAAAAAAAAAAAA";

    fn one(verb: Verb, fields: &str) -> Result<Settlement, Problem> {
        parse(verb, format!(r#"{{"lease":"{LEASE}"{fields}}}"#).as_bytes())
    }

    #[test]
    fn each_verb_takes_its_own_fields() {
        let deed = |verb, fields| one(verb, fields).unwrap().deed;
        assert!(matches!(deed(Verb::Complete, r#","result":[1]"#), Deed::End(Action::Complete(r)) if r.get() == "[1]"));
        assert!(matches!(deed(Verb::Complete, ""), Deed::End(Action::Complete(r)) if r.get() == "null"));
        let error = r#","error":{"code":"c","message":"m"}"#;
        assert!(matches!(deed(Verb::Fail, error), Deed::End(Action::Fail(f)) if f.code == "c"));
        assert!(matches!(deed(Verb::Fail, r#","retry":false"#), Deed::End(Action::FailForGood(_))));
        assert!(matches!(
            deed(Verb::Fail, r#","retry_after":"2s""#),
            Deed::End(Action::FailAndRetryAfter(_, pause)) if pause == Millis::from_secs(2)
        ));
        assert!(matches!(deed(Verb::Release, ""), Deed::End(Action::Release(None))));
        let Deed::Extend { visibility_timeout, progress } = deed(Verb::Extend, r#","progress":7"#) else { panic!() };
        assert_eq!((visibility_timeout, progress.unwrap().get()), (None, "7"));
    }

    #[test]
    fn an_error_can_be_told_in_every_way_that_has_a_text() {
        let failure = |error: &str| match one(Verb::Fail, &format!(r#","error":{error}"#)).unwrap().deed {
            Deed::End(Action::Fail(Failure { code, message })) => (code, message),
            other => panic!("{other:?}"),
        };
        for (error, code, message) in [
            (r#""boom""#, "failed", "boom"),
            (r#"{"message":"boom"}"#, "failed", "boom"),
            (r#"{"message":"boom","code":null}"#, "failed", "boom"),
            (r#"{"code":"x"}"#, "x", NO_MESSAGE),
            ("{}", "failed", NO_MESSAGE),
            ("null", "failed", NO_MESSAGE),
            (r#"{"code":"x","message":"bad \ud83d"}"#, "x", "bad \u{fffd}"),
            (r#"{"code":"\udc00","message":"\ud83d\ude00"}"#, "\u{fffd}", "😀"),
            (r#""bad \ud83d""#, "failed", "bad \u{fffd}"),
        ] {
            assert_eq!(failure(error), (code.to_owned(), message.to_owned()), "{error}");
        }
    }

    #[test]
    fn a_field_that_is_null_counts_as_absent() {
        for (verb, fields) in [
            (Verb::Complete, r#","result":null"#),
            (Verb::Fail, r#","error":null,"retry":null,"retry_after":null"#),
            (Verb::Fail, r#","retry":false,"retry_after":null"#),
            (Verb::Release, r#","delay":null"#),
            (Verb::Extend, r#","visibility_timeout":null,"progress":null"#),
        ] {
            let deed = one(verb, fields).unwrap().deed;
            assert!(!matches!(deed, Deed::Extend { progress: Some(_), .. }), "{fields}");
        }
        for required in [r#"{"lease":null}"#, r#"{"lease":null,"result":1}"#] {
            let problem = parse(Verb::Complete, required.as_bytes()).unwrap_err();
            assert!(problem.errors()[0].detail.starts_with("required"), "{problem:?}");
        }
        let many = format!(r#"{{"settlements":[{{"lease":"{LEASE}","action":null}}]}}"#);
        assert_eq!(parse_many(many.as_bytes()).unwrap_err().errors()[0].pointer, "/settlements/0/action");
    }

    #[test]
    fn what_is_wrong_is_told_field_by_field() {
        for (verb, fields, pointer) in [
            (Verb::Complete, r#","error":1"#, "/error"),
            (Verb::Fail, r#","error":5"#, "/error"),
            (Verb::Fail, r#","error":["c","m"]"#, "/error"),
            (Verb::Fail, r#","error":{"code":5}"#, "/error/code"),
            (Verb::Fail, r#","error":{"mesage":"m"}"#, "/error/mesage"),
            (Verb::Fail, r#","retry":false,"retry_after":1"#, "/retry_after"),
            (Verb::Release, r#","delay":"4000d""#, "/delay"),
            (Verb::Extend, r#","visibility_timeout":99"#, "/visibility_timeout"),
        ] {
            assert_eq!(one(verb, fields).unwrap_err().errors()[0].pointer, pointer, "{fields}");
        }
        assert_eq!(parse(Verb::Complete, b"{}").unwrap_err().errors()[0].pointer, "/lease");
        assert_eq!(parse(Verb::Complete, br#"{"lease":"x"}"#).unwrap_err().errors()[0].pointer, "/lease");
        let many = format!(r#"{{"settlements":[{{"lease":"{LEASE}"}},{{"lease":"{LEASE}","action":"eat"}}]}}"#);
        let errors = parse_many(many.as_bytes()).unwrap_err();
        assert_eq!(errors.errors()[0].pointer, "/settlements/0/action");
        assert_eq!(errors.errors()[1].pointer, "/settlements/1/action");
    }
}
