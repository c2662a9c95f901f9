//! The whole key space, as the model says that it is: each key with its type and content. The formats are those that
//! `src/keys.rs` and the headers of the scripts and fragments describe.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    message::{Became, DEFAULT_VISIBILITY, End, Instant, Kind, Lease, Message, Number, Run},
    model::Model,
    posting::name,
    settings::{Backoff, DEFAULT_COMPLETED, DEFAULT_FAILED, Keep, Settings},
    showing::{NAME, consumer, hold_key, own_id},
};

/// What one key holds. Ids stand there as `m1`, the secrets of leases as `lease1`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Text(String),
    Hash(BTreeMap<String, String>),
    List(Vec<String>),
    Set(BTreeSet<String>),
    /// Members with their scores, in order.
    Sorted(Vec<(String, String)>),
}

pub(crate) type KeySpace = BTreeMap<String, Content>;

impl Model {
    pub(crate) fn key_space(&self) -> KeySpace {
        let mut keys = KeySpace::new();
        let mut add = |suffix: &str, content: Content| {
            if !content.is_empty() {
                keys.insert(format!("drover:{{q}}:{suffix}"), content);
            }
        };
        add("meta", Content::Hash(self.meta()));
        if let Some(last) = self.last {
            add("seq", Content::Text(name(last)));
        }
        add("messages", self.hash(|number, message| Some(message.record(number))));
        add("options", self.hash(|_, message| message.has_options.then(|| message.options())));
        add("runs", self.hash(|_, message| message.run.as_ref().filter(|_| message.is_unfinished()).map(Run::text)));
        add("outcomes", self.hash(|_, message| message.outcome_text()));
        add("progress", self.hash(|_, message| message.progress.clone()));
        add("signalled", self.hash(|_, message| message.signal.clone()));
        // Of an id that has another message by now, the later one counts.
        let aliases = self.with_purged().filter_map(|(number, message)| Some((message.draft.own_id?, number)));
        add("aliases", Content::Hash(aliases.map(|(id, number)| (own_id(id), name(number))).collect()));

        let taken = self.taken.iter().map(|(id, until)| (*until, own_id(*id)));
        add("taken", scores_of(sorted(taken.collect())));

        add("waiting", Content::List(self.line.iter().map(|number| name(*number)).collect()));
        add("removed", set_of(self.line.iter().filter(|number| !self.is_waiting(**number))));
        if let Some(purge) = &self.purge {
            add("purged", Content::List(purge.line.iter().map(|number| name(*number)).collect()));
            add("purged_removed", set_of(purge.line.iter().filter(|number| !purge.messages.contains_key(number))));
            let priority = |number: &Number| (purge.messages[number].draft.priority, *number);
            add("purged_prioritized", index_of(purge.prioritized.iter().map(priority).collect()));
            add("returned", set_of(purge.returned.iter()));
        }
        add("completed", Content::List(self.completed.iter().map(|number| name(*number)).collect()));
        add("erased", set_of(self.completed.iter().filter(|number| !self.is_kept(**number))));
        add("prioritized", index_of(self.prioritized()));
        add("delayed", index_of(self.delayed()));
        add("leased", index_of(self.active()));
        add("failed", index_of(self.failed()));
        add("expiring", index_of(self.expiring()));
        add("blocking", self.set(|message| message.holds_the_line));
        add("cancelling", self.set(|message| message.is_to_be_cancelled));
        let awaited = self.awaited.iter().map(|(number, until)| (*until, *number));
        add("awaited", index_of(sorted(awaited.collect())));
        let held = self.held().into_iter().map(|(_, number)| (self.messages[&number].held_member(number), "0".into()));
        add("held", Content::Sorted(held.collect()));

        let requests = self.requests.iter().map(|(key, request)| (request.until, format!("request-{key}")));
        add("dedup_until", scores_of(sorted(requests.collect())));
        add(
            "dedup",
            Content::Hash(
                self.requests
                    .iter()
                    .map(|(key, request)| {
                        let numbers: Vec<String> = request.numbers.iter().map(|number| name(*number)).collect();
                        (
                            format!("request-{key}"),
                            format!("{}\tfp{}\t{}", request.until, request.fingerprint, numbers.join(",")),
                        )
                    })
                    .collect(),
            ),
        );
        let sticky = self.sticky.iter().map(|(key, signal)| (signal.until, hold_key(*key)));
        add("sticky_until", scores_of(sorted(sticky.collect())));
        let sticky = self.sticky.iter().map(|(key, signal)| (hold_key(*key), signal.data.clone().unwrap_or_default()));
        add("sticky", Content::Hash(sticky.collect()));
        add("events", Content::List(self.log.entries.clone()));
        add("limiter", Content::List(limiter_log(&self.leases_made)));
        if self.is_listed {
            keys.insert("drover:queues".into(), Content::Sorted(vec![("q".into(), "0".into())]));
        }
        keys
    }

    fn meta(&self) -> BTreeMap<String, String> {
        let mut meta = BTreeMap::new();
        if !self.exists {
            return meta;
        }
        let mut add = |name: &str, value: String| meta.insert(name.to_owned(), value);
        add("layout", "3".into());
        if let Some(purge) = &self.purge {
            add("purged_to", name(purge.cut));
        }
        if let Some(clock) = self.clock {
            add("clock", clock.to_string());
        }
        for (name, value) in self.settings.fields() {
            add(name, value);
        }
        if self.is_paused {
            add("paused", "1".into());
        }
        if let Some(owner) = &self.owner {
            add("owner", consumer(owner.consumer));
            add("owner_until", owner.until.to_string());
        }
        if self.leases_were_counted {
            add("limiter_used", self.leases_made.len().to_string());
        }
        if self.trimmed > 0 {
            add("trimmed", self.trimmed.to_string());
        }
        if self.largest_record > 0 {
            add("largest", self.largest_record.to_string());
        }
        if let Some(until) = self.log.listened_until {
            add("listened_until", until.to_string());
        }
        if let Some(bytes) = self.log.bytes {
            add("events_end", bytes.to_string());
        }
        for (name, total) in &self.totals {
            add(&format!("total:{name}"), total.to_string());
        }
        meta
    }

    fn hash(&self, text: impl Fn(Number, &Message) -> Option<String>) -> Content {
        let texts = self.with_purged().filter_map(|(number, message)| Some((name(number), text(number, message)?)));
        Content::Hash(texts.collect())
    }

    fn set(&self, is_in: impl Fn(&Message) -> bool) -> Content {
        set_of(self.messages.iter().filter(|(_, message)| is_in(message)).map(|(number, _)| number))
    }
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Hash(fields) => fields.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Set(members) => members.is_empty(),
            Self::Sorted(members) => members.is_empty(),
        }
    }
}

impl Settings {
    /// Those that differ from the defaults; the back-off always does.
    fn fields(&self) -> Vec<(&'static str, String)> {
        let default = Self::default();
        let mut fields = vec![("backoff", self.backoff.text())];
        let mut add = |name, value: Option<String>| fields.extend(value.map(|value| (name, value)));
        let differs = |value: u64, usual: u64| (value != usual).then(|| value.to_string());
        add("visibility_timeout", differs(self.visibility_timeout, default.visibility_timeout));
        add("max_attempts", differs(self.max_attempts.into(), default.max_attempts.into()));
        add("max_lapses", differs(self.max_lapses.into(), default.max_lapses.into()));
        add(
            "rate_limit",
            self.rate_limit.map(|limit| format!(r#"{{"max":{},"duration":{}}}"#, limit.max, limit.duration)),
        );
        add(
            "exclusive",
            self.exclusive
                .map(|parallel| if parallel == 1 { "true".into() } else { format!(r#"{{"parallel":{parallel}}}"#) }),
        );
        add("timeout", self.timeout.map(|timeout| timeout.to_string()));
        add("idempotency_window", differs(self.idempotency_window, default.idempotency_window));
        add("id_window", differs(self.id_window, default.id_window));
        add("max_length", self.max_length.map(|most| most.to_string()));
        add("retention.completed", (self.completed != DEFAULT_COMPLETED).then(|| self.completed.text()));
        add("retention.failed", (self.failed != DEFAULT_FAILED).then(|| self.failed.text()));
        fields
    }
}

impl Keep {
    fn text(self) -> String {
        format!(r#"{{"age":{},"count":{},"min_age":{}}}"#, self.age, self.count, self.min_age)
    }
}

impl Backoff {
    fn text(self) -> String {
        let kind = if self.doubles { "exponential" } else { "fixed" };
        format!(r#"{{"type":"{kind}","delay":{},"max":{},"jitter":0.0}}"#, self.delay, self.max)
    }
}

impl Message {
    pub(crate) fn record(&self, number: Number) -> String {
        let due = if self.first_due > self.created { format!("\td{}", self.first_due) } else { String::new() };
        let name = if self.draft.named { format!("\tn{NAME}") } else { String::new() };
        format!("{}{due}{name}\n{number}", self.created)
    }

    pub(crate) fn options(&self) -> String {
        let draft = &self.draft;
        let fields = [
            ('p', Some(draft.priority).filter(|priority| *priority != 0).map(|priority| priority.to_string())),
            ('a', draft.max_attempts.map(|most| most.to_string())),
            ('b', draft.backoff.map(Backoff::text)),
            ('i', draft.own_id.map(own_id)),
            ('t', draft.timeout.map(|timeout| timeout.to_string())),
            ('e', draft.ttl.map(|ttl| (self.created + ttl).to_string())),
            ('k', draft.hold.map(hold_key)),
            ('r', self.ready.map(|ready| ready.to_string())),
        ];
        fields.into_iter().filter_map(|(tag, value)| Some(format!("\t{tag}{}", value?))).collect()
    }

    fn held_member(&self, number: Number) -> String {
        let key = hold_key(self.draft.hold.unwrap_or_default());
        let due = if self.first_due > self.created { format!("\t{}", self.first_due) } else { String::new() };
        format!("{key}\t{}{due}", name(number))
    }

    fn outcome_text(&self) -> Option<String> {
        let outcome = self.outcome.as_ref()?;
        let letter = match outcome.end {
            End::Completed => 'c',
            End::AttemptFailed => 'f',
            End::Failed => 'l',
        };
        Some(format!("{letter}{}\t{}\n{}", outcome.at, self.run_so_far().text(), outcome.json))
    }
}

impl Run {
    fn text(&self) -> String {
        let lease = match self.lease {
            Lease::None => String::new(),
            Lease::Live(call) => format!("lease{call}"),
            Lease::Lapsed(call) => format!("!lease{call}"),
        };
        let started = self.started.map(|at| at.to_string()).unwrap_or_default();
        let settled = self.settled.map(|settled| {
            let deed = match settled.deed {
                Kind::Release => 'r',
                Kind::GiveBack => 'b',
                _ => 'f',
            };
            let became = if settled.became == Became::Delayed { 'd' } else { 'w' };
            format!("{deed}{became}lease{}", settled.call)
        });
        let error = self.error.as_ref().map(|error| format!("{} {} {}", error.attempt, error.at, error.json));
        [
            lease,
            started,
            self.attempts.to_string(),
            self.lapses.to_string(),
            self.deliveries.to_string(),
            self.consumer.map(consumer).unwrap_or_default(),
            settled.unwrap_or_default(),
            self.terms(),
            error.unwrap_or_default(),
        ]
        .join("\t")
    }

    fn terms(&self) -> String {
        let visibility = self.visibility.filter(|visibility| *visibility != DEFAULT_VISIBILITY);
        let terms = [('v', visibility), ('t', self.timeout), ('x', self.extension), ('r', self.ready)];
        terms.into_iter().filter_map(|(letter, value)| Some(format!("{letter}{}", value?))).collect()
    }
}

fn set_of<'n>(numbers: impl Iterator<Item = &'n Number>) -> Content {
    Content::Set(numbers.map(|number| name(*number)).collect())
}

fn index_of<S: ToString>(sorted: Vec<(S, Number)>) -> Content {
    scores_of(sorted.into_iter().map(|(score, number)| (score, name(number))).collect())
}

fn scores_of<S: ToString>(sorted: Vec<(S, String)>) -> Content {
    Content::Sorted(sorted.into_iter().map(|(score, member)| (member, score.to_string())).collect())
}

fn sorted<M: Ord>(mut members: Vec<(Instant, M)>) -> Vec<(Instant, M)> {
    members.sort();
    members
}

/// Leases of one instant share an entry.
fn limiter_log(leases: &[Instant]) -> Vec<String> {
    leases.chunk_by(|a, b| a == b).map(|same| format!("{},{},{}", same[0], same[0], same.len())).collect()
}
