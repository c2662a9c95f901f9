//! Hints about fields of Bull and `BullMQ` (and of similar queues) that have another name in Drover, or no equal. A request or
//! a configuration with a field name of another queue system gets the hint, instead of the most similar field or a list of all
//! fields.

use Hint::{Advice, Field};

/// A hint about a field that Drover does not know.
enum Hint {
    /// Drover's name of the field. The hint is given only for an object that may have Drover's field.
    Field(&'static str),
    /// An instruction to the user about an object that may have Drover's field `beside`. The field `beside` tells messages,
    /// settings and schedules apart.
    Advice { beside: &'static str, text: &'static str },
}

/// A field that posted messages have, and neither the messages of schedules nor any other object.
const POSTED_MESSAGE_FIELD: &str = "deliver_at";
/// A field that posted messages and the messages of schedules have, and no other object.
const ANY_MESSAGE_FIELD: &str = "ttl";
/// A field that only settings have.
const SETTINGS_FIELD: &str = "max_lapses";
/// A field that only schedules have.
const SCHEDULE_FIELD: &str = "max_runs";

const REPEATED_JOB_HINT: Hint = Advice {
    beside: POSTED_MESSAGE_FIELD,
    text: "a schedule posts a message repeatedly: PUT /v1/queues/{queue}/schedules/{name} with cron or every",
};
const JOB_REMOVAL_HINT: Hint = Advice {
    beside: ANY_MESSAGE_FIELD,
    text: "the queue's setting \"retention\" decides how long finished messages are kept: PATCH /v1/queues/{queue}",
};
const DEDUPLICATION_HINT: Hint =
    Advice { beside: POSTED_MESSAGE_FIELD, text: "an own \"id\" or the header Idempotency-Key prevents duplicates" };
const JOB_FLOW_HINT: Hint = Advice {
    beside: ANY_MESSAGE_FIELD,
    text: "a message has no parent or children: a handler may post messages, and \"hold\" lets a message wait for a signal",
};
const MESSAGE_OPTIONS_HINT: Hint =
    Advice { beside: ANY_MESSAGE_FIELD, text: "give the options themselves as fields, beside \"data\"" };
const SCHEDULE_MESSAGE_HINT: Hint =
    Advice { beside: SCHEDULE_FIELD, text: "give the fields of the message in \"message\"" };
const SETTINGS_OBJECT_HINT: Hint =
    Advice { beside: SETTINGS_FIELD, text: "give the settings themselves as fields, such as \"max_attempts\"" };

/// All hints, by the names of fields in other queue systems. Each foreign field name is written in lower case and without
/// separators.
const HINTS: [(&str, Hint); 60] = [
    // Hints about other queue systems' options of messages:
    ("attempts", Field("max_attempts")),
    ("jobid", Field("id")),
    // The hint about `jobId` in the message of a schedule, which has no own id.
    ("jobid", Advice { beside: ANY_MESSAGE_FIELD, text: "Drover gives each message of a schedule an id of its own" }),
    ("messageid", Field("id")),
    ("payload", Field("data")),
    ("body", Field("data")),
    ("content", Field("data")),
    ("runat", Field("deliver_at")),
    ("sendat", Field("deliver_at")),
    ("scheduledat", Field("deliver_at")),
    ("expiration", Field("ttl")),
    ("expiresin", Field("ttl")),
    ("opts", MESSAGE_OPTIONS_HINT),
    ("options", MESSAGE_OPTIONS_HINT),
    ("repeat", REPEATED_JOB_HINT),
    ("cron", REPEATED_JOB_HINT),
    ("every", REPEATED_JOB_HINT),
    ("pattern", REPEATED_JOB_HINT),
    ("removeoncomplete", JOB_REMOVAL_HINT),
    ("removeonfail", JOB_REMOVAL_HINT),
    ("retention", JOB_REMOVAL_HINT),
    ("deduplication", DEDUPLICATION_HINT),
    ("debounce", DEDUPLICATION_HINT),
    ("idempotencykey", DEDUPLICATION_HINT),
    ("parent", JOB_FLOW_HINT),
    ("children", JOB_FLOW_HINT),
    (
        "timestamp",
        Advice {
            beside: ANY_MESSAGE_FIELD,
            text: "Drover sets \"created_at\"; \"deliver_at\" is the time at which a message is due",
        },
    ),
    ("lifo", Advice { beside: ANY_MESSAGE_FIELD, text: "messages with a lower \"priority\" are leased first" }),
    ("wait", Advice { beside: POSTED_MESSAGE_FIELD, text: "give the wait in the query: ?wait=20s" }),
    // Hints about other queue systems' settings of queues:
    ("limiter", Field("rate_limit")),
    ("lockduration", Field("visibility_timeout")),
    (
        "stalledinterval",
        Advice {
            beside: SETTINGS_FIELD,
            text: "Drover notices a lapsed lease within 1 s; \"visibility_timeout\" is the time after which a lease lapses",
        },
    ),
    (
        "maxstalledcount",
        Advice {
            beside: SETTINGS_FIELD,
            text: "\"max_lapses\" is the lapse that fails a message: maxStalledCount + 1",
        },
    ),
    (
        "removeoncomplete",
        Advice {
            beside: SETTINGS_FIELD,
            text: "\"retention\": {\"completed\": …} decides how long completed messages are kept",
        },
    ),
    (
        "removeonfail",
        Advice {
            beside: SETTINGS_FIELD,
            text: "\"retention\": {\"failed\": …} decides how long failed messages are kept",
        },
    ),
    (
        "concurrency",
        Advice {
            beside: SETTINGS_FIELD,
            text: "the key \"worker.concurrency\" bounds the handlers of a worker, \"exclusive\": {\"parallel\": n} those of the \
                   whole queue, \"groups\" those of a group",
        },
    ),
    ("defaultjoboptions", SETTINGS_OBJECT_HINT),
    ("settings", SETTINGS_OBJECT_HINT),
    ("opts", SETTINGS_OBJECT_HINT),
    (
        "paused",
        Advice {
            beside: SETTINGS_FIELD,
            text: "POST /v1/queues/{queue}/pause pauses the queue, and …/resume resumes it",
        },
    ),
    // Hints about other queue systems' fields of schedules:
    ("pattern", Field("cron")),
    ("tz", Field("timezone")),
    ("limit", Field("max_runs")),
    ("startdate", Field("start_at")),
    ("enddate", Field("end_at")),
    ("template", Field("message")),
    ("jobtemplate", Field("message")),
    ("repeat", Advice { beside: SCHEDULE_FIELD, text: "give \"cron\" or \"every\" themselves as fields" }),
    (
        "immediately",
        Advice {
            beside: SCHEDULE_FIELD,
            text: "POST /v1/queues/{queue}/schedules/{name}/run posts the message at once",
        },
    ),
    ("count", Advice { beside: SCHEDULE_FIELD, text: "Drover counts the ticks itself; \"max_runs\" limits them" }),
    ("jobid", Advice { beside: SCHEDULE_FIELD, text: "the name in the path identifies a schedule" }),
    ("data", SCHEDULE_MESSAGE_HINT),
    ("name", SCHEDULE_MESSAGE_HINT),
    ("opts", SCHEDULE_MESSAGE_HINT),
    ("attempts", SCHEDULE_MESSAGE_HINT),
    // Hints about other queue systems' fields of leases and settlements:
    ("returnvalue", Field("result")),
    ("failedreason", Field("error")),
    ("token", Field("lease")),
    ("batchsize", Field("max")),
    ("maxnumberofmessages", Field("max")),
];

/// Returns the hint about an unknown field, if the object may have the field that the hint is about.
pub(crate) fn hint(unknown: &str, known: &[&str]) -> Option<String> {
    let is_same = |name: &str| {
        let letters =
            unknown.chars().filter(|letter| !matches!(letter, '_' | '-')).map(|letter| letter.to_ascii_lowercase());
        letters.eq(name.chars())
    };
    HINTS.iter().filter(|(name, _)| is_same(name)).find_map(|(_, hint)| match hint {
        Field(field) => known.contains(field).then(|| format!("did you mean \"{field}\"?")),
        Advice { beside, text } => known.contains(beside).then(|| (*text).to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROVER_MESSAGE_FIELDS: [&str; 6] = ["data", "id", "delay", "deliver_at", "max_attempts", "ttl"];
    const DROVER_SCHEDULE_MESSAGE_FIELDS: [&str; 3] = ["data", "max_attempts", "ttl"];
    const DROVER_SETTING_NAMES: [&str; 5] =
        ["visibility_timeout", "max_attempts", "max_lapses", "rate_limit", "retention"];
    const DROVER_SCHEDULE_FIELDS: [&str; 6] = ["cron", "timezone", "start_at", "end_at", "max_runs", "message"];

    #[test]
    fn field_name_of_another_queue_system_gets_a_hint_for_its_object() {
        for (name, known, expected) in [
            ("attempts", &DROVER_MESSAGE_FIELDS[..], "did you mean \"max_attempts\"?"),
            ("attempts", &DROVER_SETTING_NAMES, "did you mean \"max_attempts\"?"),
            ("attempts", &DROVER_SCHEDULE_FIELDS, "give the fields of the message in \"message\""),
            ("jobId", &DROVER_MESSAGE_FIELDS, "did you mean \"id\"?"),
            ("job_id", &DROVER_MESSAGE_FIELDS, "did you mean \"id\"?"),
            ("payload", &DROVER_MESSAGE_FIELDS, "did you mean \"data\"?"),
            ("opts", &DROVER_MESSAGE_FIELDS, "beside \"data\""),
            ("repeat", &DROVER_MESSAGE_FIELDS, "PUT /v1/queues/{queue}/schedules/{name}"),
            ("repeat", &DROVER_SCHEDULE_FIELDS, "give \"cron\" or \"every\""),
            ("removeOnComplete", &DROVER_MESSAGE_FIELDS, "the queue's setting \"retention\""),
            ("removeOnComplete", &DROVER_SETTING_NAMES, "\"retention\": {\"completed\": …}"),
            ("remove_on_fail", &DROVER_SETTING_NAMES, "\"retention\": {\"failed\": …}"),
            ("limiter", &DROVER_SETTING_NAMES, "did you mean \"rate_limit\"?"),
            ("concurrency", &DROVER_SETTING_NAMES, "worker.concurrency"),
            ("pattern", &DROVER_SCHEDULE_FIELDS, "did you mean \"cron\"?"),
            ("pattern", &DROVER_MESSAGE_FIELDS, "a schedule posts"),
            ("tz", &DROVER_SCHEDULE_FIELDS, "did you mean \"timezone\"?"),
            ("limit", &DROVER_SCHEDULE_FIELDS, "did you mean \"max_runs\"?"),
            ("startDate", &DROVER_SCHEDULE_FIELDS, "did you mean \"start_at\"?"),
            ("jobId", &DROVER_SCHEDULE_FIELDS, "the name in the path"),
            ("jobId", &DROVER_SCHEDULE_MESSAGE_FIELDS, "an id of its own"),
            ("count", &DROVER_SCHEDULE_FIELDS, "\"max_runs\""),
            ("maxStalledCount", &DROVER_SETTING_NAMES, "maxStalledCount + 1"),
            ("stalledInterval", &DROVER_SETTING_NAMES, "within 1 s"),
        ] {
            let hint = hint(name, known).unwrap_or_default();
            assert!(hint.contains(expected), "{name}: {hint}");
        }
        for (name, known) in [
            ("limiter", &DROVER_MESSAGE_FIELDS[..]),
            ("tz", &DROVER_SETTING_NAMES),
            ("xyz", &DROVER_MESSAGE_FIELDS),
            ("", &[]),
        ] {
            assert_eq!(hint(name, known), None, "{name}");
        }
    }

    #[test]
    fn names_of_hints_can_be_found_and_no_hint_is_hidden_by_an_earlier_hint() {
        let place = |hint: &Hint| match hint {
            Field(field) => *field,
            Advice { beside, .. } => *beside,
        };
        for (index, (name, hint)) in HINTS.iter().enumerate() {
            assert!(name.bytes().all(|letter| letter.is_ascii_lowercase()), "{name}");
            let is_hidden =
                HINTS[..index].iter().any(|(earlier, other)| earlier == name && place(other) == place(hint));
            assert!(!is_hidden, "{name} beside {} has two hints", place(hint));
            if let Advice { text, .. } = hint {
                assert!(text.len() < 180, "{name}: errors about settings cut texts of 180 bytes");
            }
        }
    }
}
