//! Hints about fields of Bull and `BullMQ` (and of similar queues) that have another name in Drover, or no equal. A request or a
//! configuration with such a field gets the hint, instead of the most similar field or a list of all fields.

use Hint::{Advice, Field};

/// A hint about a field that Drover does not know.
enum Hint {
    /// Drover's name of the field. The hint holds for an object that may have the named field.
    Field(&'static str),
    /// An instruction for an object that may have the field `beside`, which tells messages, settings and schedules apart.
    Advice { beside: &'static str, text: &'static str },
}

/// A field that posted messages have, and neither the messages of schedules nor any other object.
const POST: &str = "deliver_at";
/// A field that posted messages and the messages of schedules have, and no other object.
const MESSAGE: &str = "ttl";
/// A field that only settings have.
const SETTINGS: &str = "max_lapses";
/// A field that only schedules have.
const SCHEDULE: &str = "max_runs";

const REPEAT: Hint = Advice {
    beside: POST,
    text: "a schedule posts a message repeatedly: PUT /v1/queues/{queue}/schedules/{name} with cron or every",
};
const REMOVE: Hint = Advice {
    beside: MESSAGE,
    text: "the queue's setting \"retention\" decides how long finished messages are kept: PATCH /v1/queues/{queue}",
};
const DUPLICATES: Hint =
    Advice { beside: POST, text: "an own \"id\" or the header Idempotency-Key prevents duplicates" };
const FLOW: Hint = Advice {
    beside: MESSAGE,
    text: "a message has no parent or children: a handler may post messages, and \"hold\" lets a message wait for a signal",
};
const OPTIONS: Hint = Advice { beside: MESSAGE, text: "give the options themselves as fields, beside \"data\"" };
const TEMPLATE: Hint = Advice { beside: SCHEDULE, text: "give the fields of the message in \"message\"" };
const SETTINGS_THEMSELVES: Hint =
    Advice { beside: SETTINGS, text: "give the settings themselves as fields, such as \"max_attempts\"" };

/// All hints, by the names of fields in other queue systems. A name is in lower case and without separators.
const HINTS: [(&str, Hint); 60] = [
    // The next hints are about options of messages.
    ("attempts", Field("max_attempts")),
    ("jobid", Field("id")),
    // This hint is for the messages of schedules, which have no own id.
    ("jobid", Advice { beside: MESSAGE, text: "Drover gives each message of a schedule an id of its own" }),
    ("messageid", Field("id")),
    ("payload", Field("data")),
    ("body", Field("data")),
    ("content", Field("data")),
    ("runat", Field("deliver_at")),
    ("sendat", Field("deliver_at")),
    ("scheduledat", Field("deliver_at")),
    ("expiration", Field("ttl")),
    ("expiresin", Field("ttl")),
    ("opts", OPTIONS),
    ("options", OPTIONS),
    ("repeat", REPEAT),
    ("cron", REPEAT),
    ("every", REPEAT),
    ("pattern", REPEAT),
    ("removeoncomplete", REMOVE),
    ("removeonfail", REMOVE),
    ("retention", REMOVE),
    ("deduplication", DUPLICATES),
    ("debounce", DUPLICATES),
    ("idempotencykey", DUPLICATES),
    ("parent", FLOW),
    ("children", FLOW),
    (
        "timestamp",
        Advice {
            beside: MESSAGE,
            text: "Drover sets \"created_at\"; \"deliver_at\" is the time at which a message is due",
        },
    ),
    ("lifo", Advice { beside: MESSAGE, text: "messages with a lower \"priority\" are leased first" }),
    ("wait", Advice { beside: POST, text: "give the wait in the query: ?wait=20s" }),
    // The next hints are about settings of queues.
    ("limiter", Field("rate_limit")),
    ("lockduration", Field("visibility_timeout")),
    (
        "stalledinterval",
        Advice {
            beside: SETTINGS,
            text: "Drover notices a lapsed lease within 1 s; \"visibility_timeout\" is the time after which a lease lapses",
        },
    ),
    (
        "maxstalledcount",
        Advice { beside: SETTINGS, text: "\"max_lapses\" is the lapse that fails a message: maxStalledCount + 1" },
    ),
    (
        "removeoncomplete",
        Advice {
            beside: SETTINGS,
            text: "\"retention\": {\"completed\": …} decides how long completed messages are kept",
        },
    ),
    (
        "removeonfail",
        Advice { beside: SETTINGS, text: "\"retention\": {\"failed\": …} decides how long failed messages are kept" },
    ),
    (
        "concurrency",
        Advice {
            beside: SETTINGS,
            text: "the key \"worker.concurrency\" bounds the handlers of a worker, \"exclusive\": {\"parallel\": n} those of the \
                   whole queue, \"groups\" those of a group",
        },
    ),
    ("defaultjoboptions", SETTINGS_THEMSELVES),
    ("settings", SETTINGS_THEMSELVES),
    ("opts", SETTINGS_THEMSELVES),
    (
        "paused",
        Advice { beside: SETTINGS, text: "POST /v1/queues/{queue}/pause pauses the queue, and …/resume resumes it" },
    ),
    // The next hints are about fields of schedules.
    ("pattern", Field("cron")),
    ("tz", Field("timezone")),
    ("limit", Field("max_runs")),
    ("startdate", Field("start_at")),
    ("enddate", Field("end_at")),
    ("template", Field("message")),
    ("jobtemplate", Field("message")),
    ("repeat", Advice { beside: SCHEDULE, text: "give \"cron\" or \"every\" themselves as fields" }),
    (
        "immediately",
        Advice { beside: SCHEDULE, text: "POST /v1/queues/{queue}/schedules/{name}/run posts the message at once" },
    ),
    ("count", Advice { beside: SCHEDULE, text: "Drover counts the ticks itself; \"max_runs\" limits them" }),
    ("jobid", Advice { beside: SCHEDULE, text: "the name in the path identifies a schedule" }),
    ("data", TEMPLATE),
    ("name", TEMPLATE),
    ("opts", TEMPLATE),
    ("attempts", TEMPLATE),
    // The next hints are about fields of leases and settlements.
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

    const MESSAGE_FIELDS: [&str; 6] = ["data", "id", "delay", "deliver_at", "max_attempts", "ttl"];
    const TEMPLATE_FIELDS: [&str; 3] = ["data", "max_attempts", "ttl"];
    const SETTING_NAMES: [&str; 5] = ["visibility_timeout", "max_attempts", "max_lapses", "rate_limit", "retention"];
    const SCHEDULE_FIELDS: [&str; 6] = ["cron", "timezone", "start_at", "end_at", "max_runs", "message"];

    #[test]
    fn field_name_of_another_queue_system_gets_a_hint_for_its_object() {
        for (name, known, expected) in [
            ("attempts", &MESSAGE_FIELDS[..], "did you mean \"max_attempts\"?"),
            ("attempts", &SETTING_NAMES, "did you mean \"max_attempts\"?"),
            ("attempts", &SCHEDULE_FIELDS, "give the fields of the message in \"message\""),
            ("jobId", &MESSAGE_FIELDS, "did you mean \"id\"?"),
            ("job_id", &MESSAGE_FIELDS, "did you mean \"id\"?"),
            ("payload", &MESSAGE_FIELDS, "did you mean \"data\"?"),
            ("opts", &MESSAGE_FIELDS, "beside \"data\""),
            ("repeat", &MESSAGE_FIELDS, "PUT /v1/queues/{queue}/schedules/{name}"),
            ("repeat", &SCHEDULE_FIELDS, "give \"cron\" or \"every\""),
            ("removeOnComplete", &MESSAGE_FIELDS, "the queue's setting \"retention\""),
            ("removeOnComplete", &SETTING_NAMES, "\"retention\": {\"completed\": …}"),
            ("remove_on_fail", &SETTING_NAMES, "\"retention\": {\"failed\": …}"),
            ("limiter", &SETTING_NAMES, "did you mean \"rate_limit\"?"),
            ("concurrency", &SETTING_NAMES, "worker.concurrency"),
            ("pattern", &SCHEDULE_FIELDS, "did you mean \"cron\"?"),
            ("pattern", &MESSAGE_FIELDS, "a schedule posts"),
            ("tz", &SCHEDULE_FIELDS, "did you mean \"timezone\"?"),
            ("limit", &SCHEDULE_FIELDS, "did you mean \"max_runs\"?"),
            ("startDate", &SCHEDULE_FIELDS, "did you mean \"start_at\"?"),
            ("jobId", &SCHEDULE_FIELDS, "the name in the path"),
            ("jobId", &TEMPLATE_FIELDS, "an id of its own"),
            ("count", &SCHEDULE_FIELDS, "\"max_runs\""),
            ("maxStalledCount", &SETTING_NAMES, "maxStalledCount + 1"),
            ("stalledInterval", &SETTING_NAMES, "within 1 s"),
        ] {
            let hint = hint(name, known).unwrap_or_default();
            assert!(hint.contains(expected), "{name}: {hint}");
        }
        for (name, known) in
            [("limiter", &MESSAGE_FIELDS[..]), ("tz", &SETTING_NAMES), ("xyz", &MESSAGE_FIELDS), ("", &[])]
        {
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
