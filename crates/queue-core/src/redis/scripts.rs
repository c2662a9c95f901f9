//! The Lua scripts, assembled from their fragments.
//!
//! This module assembles each script as the headers of its text and of its fragments say: `-- KEYS` names the keys that the text
//! itself touches, as upper-case locals; `-- USES` names the fragments that the text calls. A script fails if its code touches a
//! key or calls a fragment that no header names. A fragment that another fragment needs is included too.
//!
//! A script whose header has a line `-- CALLS enqueue` contains the whole text of `enqueue.lua` as a function, which takes the
//! arguments and returns the reply.
//!
//! A script may have several parts, each of which begins with a line `-- USES`. The fragments of a part come right before the part,
//! so that a call that ends in an earlier part does not run these fragments.

use std::{
    collections::BTreeSet,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use deadpool_redis::redis::{self, Arg, Cmd};

use crate::{limits, message::record, redis::keys::suffix, settings::Settings};

/// Whether the scripts of this process read the time from the key `clock` of a queue.
static CLOCK_IS_INJECTED: AtomicBool = AtomicBool::new(false);

/// Replaces the fragment `clock` in tests that set the time by hand: the key `drover:{<queue>}:clock` has the time in µs.
const INJECTED_CLOCK: &str = "\
local now_us = tonumber(redis.call('GET', (string.gsub(META, 'meta$', 'clock'))))
local now = math.floor(now_us / 1000)
";

/// The effect of [`Redis::inject_clock`](crate::Redis::inject_clock).
pub(crate) fn inject_clock() {
    CLOCK_IS_INJECTED.store(true, Ordering::Relaxed);
}

/// The data layout that this version of Drover reads and writes.
pub(crate) const LAYOUT: u32 = 3;

/// The data layout of a queue while it has unfinished messages with a group. Versions of Drover without groups refuse this layout,
/// because they would lease messages out of order.
const GROUPED_LAYOUT: u32 = 4;

/// The maximum number of runs that one call reads or writes. Each run may have an error, and the runs of one call must have at most
/// [`limits::MAX_BYTES`].
const MAX_RUNS: usize = 400;
const _: () = assert!(MAX_RUNS * MAX_RUN_BYTES <= limits::MAX_BYTES);

/// The maximum bytes of a run: its last error, its earlier errors, and the rest.
const MAX_RUN_BYTES: usize = limits::MAX_ERROR_BYTES + limits::MAX_EARLIER_ERRORS_BYTES + 1_024;

/// The maximum number of outcomes that one call reads. Each outcome may have a result, so a call can read only few outcomes.
const MAX_RESULTS: usize = limits::MAX_BYTES / (limits::MAX_RESULT_BYTES + MAX_RUN_BYTES);

/// Returns the constants that the scripts and the library share, as Lua writes them. Each constant whose name a script contains becomes
/// a local of that script.
fn shared_constants() -> Vec<(&'static str, String)> {
    let default_settings = Settings::default();
    let text_of = |setting: &str| format!("'{}'", default_settings.all_meta_fields()[setting]);
    vec![
        ("KNOWN_LAYOUT", LAYOUT.to_string()),
        ("GROUPED_LAYOUT", GROUPED_LAYOUT.to_string()),
        ("DEFAULTS", defaults_as_lua()),
        ("DEFAULT_VISIBILITY", default_settings.visibility_timeout.get().to_string()),
        ("GROUPS_CONCURRENCY", text_of("groups.concurrency")),
        ("RETENTION_COMPLETED", text_of("retention.completed")),
        ("RETENTION_FAILED", text_of("retention.failed")),
        ("MAX_MESSAGES", limits::MAX_MESSAGES.to_string()),
        ("MAX_BYTES", limits::MAX_BYTES.to_string()),
        ("MAX_RUNS", MAX_RUNS.to_string()),
        ("MAX_EARLIER_ERRORS_BYTES", limits::MAX_EARLIER_ERRORS_BYTES.to_string()),
        ("MAX_SCHEDULES", limits::MAX_SCHEDULES.to_string()),
        ("MAX_RESULTS", MAX_RESULTS.to_string()),
        ("PATCHED_LETTERS", format!("'{}'", record::patched_letters())),
        ("RUN_TIMEOUT_GRACE", limits::RUN_TIMEOUT_GRACE.get().to_string()),
    ]
}

/// A script that can be sent to Redis.
pub(crate) struct Script {
    /// The name of the script's file, for errors and metrics.
    pub(crate) name: &'static str,
    /// The suffixes of the keys that the script touches, in the order of KEYS.
    pub(crate) keys: Vec<&'static str>,
    pub(crate) sha: String,
    pub(crate) source: String,
}

macro_rules! fragments {
    ($($name:literal),* $(,)?) => {
        /// The name and the text of each fragment.
        static FRAGMENTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../lua/lib/", $name, ".lua")))),*];
    };
}

fragments! {
    "attempt", "backoff", "clock", "clock_step", "configure", "cursors", "delivered", "errors", "events", "expire", "extra", "failed",
    "fields", "finish", "forget", "forget_purged", "groups", "held", "instants", "layout", "limiter", "maintain", "meta",
    "next_change", "owner", "promote_due", "purged", "ready", "record_clock", "recover", "remove_from_state",
    "requeue", "requeue_at_head", "retention", "run", "schedule", "shown", "signal", "state", "sticky", "sweep", "timeout", "totals",
    "trim", "waiters", "waiting_list", "wake", "watch",
}

macro_rules! scripts {
    ($($folder:literal { $($name:ident = $file:literal),* $(,)? })*) => {
        $($(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::assemble($file, include_str!(concat!("../lua/", $folder, "/", $file, ".lua"))));)*)*

        /// The names of all scripts that belong to queues.
        pub(crate) const SCRIPT_NAMES: &[&str] = &[$($($file),*),*];

        #[cfg(test)]
        fn all() -> Vec<&'static Script> {
            vec![$($(&*$name),*),*]
        }

        #[cfg(test)]
        const SCRIPT_TEXTS: &[&str] = &[$($(include_str!(concat!("../lua/", $folder, "/", $file, ".lua"))),*),*];
    };
}

scripts! {
    "produce" { DECLARE = "declare", ENQUEUE = "enqueue", SIGNAL = "signal", TICK = "tick" }
    "consume" {
        LEASE = "lease", SETTLE = "settle", EXTEND = "extend", PROGRESS = "progress", FIND_LEASES = "find_leases",
        UNDO_LEASES = "undo_leases", END_OWNERSHIP = "end_ownership",
    }
    "manage" {
        CANCEL = "cancel", CHANGE_SCHEDULE = "change_schedule", CONFIGURE = "configure", DELETE = "delete", ERASE = "erase", PATCH = "patch", PROMOTE = "promote",
        PURGE = "purge", PUT_SCHEDULE = "put_schedule", RETRY = "retry",
    }
    "inspect" { AUDIT = "audit", AWAIT = "await", LIST = "list", LISTEN = "listen", READ = "read", SCHEDULES = "schedules", STATUS = "status" }
    "maintenance" { MAINTAIN = "maintain" }
}

/// The text of the script that stores messages, which `tick` also contains.
const ENQUEUE_TEXT: &str = include_str!("../lua/produce/enqueue.lua");

/// The name of the script of quotas, which belongs to no queue.
pub(crate) const QUOTA: &str = "quota";

impl Script {
    pub(crate) fn new(name: &'static str, keys: Vec<&'static str>, source: String) -> Self {
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { name, keys, sha, source }
    }

    fn assemble(name: &'static str, text: &'static str) -> Self {
        let (shebang, body) = text.split_once('\n').unwrap_or((text, ""));
        let mut script_needs = ScriptNeeds::default();
        if !shebang.contains("no-writes") {
            // The fragment `layout` comes first, so that a script changes nothing in a queue with another layout.
            script_needs.add_fragment("layout");
        }
        let mut fragments_before = 0;
        let mut parts = Vec::new();
        for part in parts_of(body) {
            script_needs.add_text(part);
            let called_fragments: String = header_words(part, "-- CALLS ")
                .map(|called_fragments| script_needs.add_function(called_fragments))
                .collect();
            let fragment_texts: String =
                script_needs.fragments[fragments_before..].iter().map(|(_, text)| *text).collect();
            parts.push(fragment_texts + &called_fragments + part);
            fragments_before = script_needs.fragments.len();
        }
        let keys = script_needs.keys();
        // Lua reads locals faster than table fields.
        let mut local_names: Vec<(String, String)> = keys
            .iter()
            .zip(1..)
            .map(|(key, index)| (key.to_uppercase(), format!("KEYS[{index}]")))
            .chain(shared_constants().into_iter().map(|(name, value)| (name.to_owned(), value)))
            .collect();
        let mut source = format!("{shebang}\nlocal KEYS, ARGV = KEYS, ARGV\n");
        for part in parts {
            let needed_locals =
                local_names.extract_if(.., |(name, _)| words_of_lua(&part).any(|word| word == name.as_str()));
            source.extend(needed_locals.map(|(name, value)| format!("local {name} = {value}\n")));
            source.push_str(&part);
        }
        Self::new(name, keys, source)
    }

    /// Whether replicas must confirm the writes of this script.
    pub(crate) fn stores_messages(&self) -> bool {
        ["enqueue", "patch", "put_schedule", "tick"].contains(&self.name)
    }

    /// Converts a call of this script by its SHA to a call that sends the whole script, which Redis then caches.
    pub(crate) fn eval_of(&self, by_sha: &Cmd) -> Cmd {
        let mut eval = redis::cmd("EVAL");
        eval.arg(&self.source);
        for arg in by_sha.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                eval.arg(arg);
            }
        }
        eval
    }
}

/// Splits the body of a script before each line `-- USES` except the first.
fn parts_of(body: &'static str) -> Vec<&'static str> {
    let mut part_starts: Vec<usize> = body.match_indices("\n-- USES ").map(|(index, _)| index + 1).collect();
    if let Some(first) = part_starts.first_mut() {
        *first = 0;
    }
    let part_ends = part_starts.iter().skip(1).copied().chain([body.len()]);
    if part_starts.is_empty() {
        vec![body]
    } else {
        part_starts.iter().zip(part_ends).map(|(begin, end)| &body[*begin..end]).collect()
    }
}

/// The fragments, keys and fields of `meta` that a script needs, directly or through other fragments.
#[derive(Default)]
struct ScriptNeeds {
    /// The needed fragments; each fragment occurs once, after the fragments that it uses.
    fragments: Vec<(&'static str, &'static str)>,
    keys: BTreeSet<&'static str>,
}

impl ScriptNeeds {
    fn add_text(&mut self, text: &'static str) {
        self.keys.extend(header_words(text, "-- KEYS "));
        header_words(text, "-- USES ").for_each(|used| self.add_fragment(used));
    }

    fn add_fragment(&mut self, name: &str) {
        if self.fragments.iter().any(|(known, _)| *known == name) {
            return;
        }
        let found_fragment = FRAGMENTS.iter().find(|(known, _)| *known == name);
        let (name, text) =
            found_fragment.unwrap_or_else(|| unreachable!("no fragment {name}: a unit test assembles every script"));
        self.add_text(text);
        let is_injected = *name == "clock" && CLOCK_IS_INJECTED.load(Ordering::Relaxed);
        self.fragments.push((name, if is_injected { INJECTED_CLOCK } else { text }));
    }

    /// Adds the needs of another script, and returns the text of that script as a Lua function.
    fn add_function(&mut self, called: &str) -> String {
        assert_eq!(called, "enqueue", "a unit test assembles every script");
        for part in parts_of(ENQUEUE_TEXT) {
            self.add_text(part);
        }
        let body = ENQUEUE_TEXT.split_once('\n').map_or("", |(_, body)| body);
        format!("local function {called}(ARGV)\n{body}end\n")
    }

    /// Returns the needed keys in the order of [`suffix::ALL`]; a header names each key, or all keys as `*`.
    fn keys(&self) -> Vec<&'static str> {
        suffix::ALL.iter().copied().filter(|key| self.keys.contains("*") || self.keys.contains(key)).collect()
    }
}

/// Returns the words of a Lua text.
fn words_of_lua(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_alphanumeric() && char != '_')
}

/// Returns the defaults of all settings as a Lua table.
fn defaults_as_lua() -> String {
    // A setting that is null or false by default is nil in Lua.
    let truthy_defaults =
        Settings::default().all_meta_fields().into_iter().filter(|(_, json)| json != "null" && json != "false");
    let entries: Vec<String> = truthy_defaults.map(|(name, json)| format!("['{name}'] = '{json}'")).collect();
    format!("{{ {} }}", entries.join(", "))
}

/// Returns the words of the header line that begins with `start`.
fn header_words(text: &'static str, start: &str) -> impl Iterator<Item = &'static str> {
    let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("");
    line.split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL_PAGE: &str = include_str!("../../../../docs/PROTOCOL.md");

    /// Returns the name with which each line of the list in the section "Keys" of the protocol page begins.
    fn documented_keys() -> BTreeSet<&'static str> {
        let (_, after) = PROTOCOL_PAGE.split_once("\n## Keys\n").expect("the page has this section");
        let section = after.split("\n## ").next().unwrap_or(after);
        section.lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next()).collect()
    }

    #[test]
    fn the_protocol_page_names_every_key_and_no_other() {
        assert_eq!(documented_keys(), suffix::ALL.iter().copied().collect());
    }

    #[test]
    fn the_protocol_page_says_of_every_script_and_no_other_whether_it_may_repeat() {
        let (_, table) = PROTOCOL_PAGE.split_once("\nmay be repeated | calls\n").expect("the page has this table");
        let table_rows = table.lines().take_while(|line| line.contains('|'));
        let documented_keys: BTreeSet<&str> = table_rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
        let other_calls = [QUOTA, "command", "WAIT"];
        assert_eq!(documented_keys, all().into_iter().map(|script| script.name).chain(other_calls).collect());
    }

    #[test]
    fn the_protocol_page_names_every_setting() {
        let (_, after) = PROTOCOL_PAGE.split_once("\n## The fields of `meta`\n").expect("the page has this section");
        let section = after.split("\n## ").next().unwrap_or(after);
        for name in Settings::default().meta_fields().into_keys() {
            assert!(section.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn every_script_is_assembled_with_a_complete_header() {
        for script in all() {
            assert!(script.source.starts_with("#!lua"), "{}", script.name);
            assert!(!script.keys.is_empty(), "{}", script.name);
            for word in ["-- ARGV ", "-- Returns ", "-- Complexity "] {
                let has_line = script.source.contains(word) || (word == "-- ARGV " && script.name == "status");
                assert!(has_line, "{}.lua has no line {word}", script.name);
            }
        }
    }

    /// Returns the words of a Lua text without its comments.
    fn words_of_code(text: &str) -> Vec<&str> {
        text.lines().flat_map(|line| words_of_lua(line.split("--").next().unwrap_or(line))).collect()
    }

    fn function_names(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.trim_start().strip_prefix("local function ")?.split('(').next())
    }

    #[test]
    fn each_text_names_the_keys_that_it_touches_and_the_fragments_that_it_calls() {
        for text in FRAGMENTS.iter().map(|(_, text)| *text).chain(SCRIPT_TEXTS.iter().copied()) {
            let first_line = text.lines().nth(usize::from(text.starts_with("#!"))).unwrap_or(text);
            let keys: BTreeSet<&str> = header_words(text, "-- KEYS ").collect();
            assert!(keys.iter().all(|key| *key == "*" || suffix::ALL.contains(key)), "{first_line}: {keys:?}");
            let used_words = words_of_code(text);
            for key in suffix::ALL.iter().copied() {
                let is_key_touched = keys.contains("*") || used_words.contains(&key.to_uppercase().as_str());
                assert_eq!(is_key_touched, keys.contains("*") || keys.contains(key), "{first_line}: {key}");
            }
            let used_fragments: BTreeSet<&str> =
                parts_of(text).into_iter().flat_map(|part| header_words(part, "-- USES ")).collect();
            let is_meta = first_line.starts_with("-- meta:");
            assert_eq!(used_words.contains(&"meta") && !is_meta, used_fragments.contains("meta"), "{first_line}: meta");
            for (name, fragment) in FRAGMENTS.iter().filter(|(name, _)| !used_fragments.contains(name)) {
                let other_functions =
                    function_names(fragment).filter(|function| function_names(text).all(|own| own != *function));
                for function in other_functions.filter(|function| used_words.contains(function)) {
                    assert!(!text.contains(&format!("{function}(")), "{first_line}: {function} of {name}");
                }
            }
        }
    }

    #[test]
    fn a_part_of_a_script_comes_after_its_own_fragments_and_before_the_fragments_of_the_next_part() {
        let source = &ENQUEUE.source;
        let position = |text| source.find(text).unwrap_or_else(|| panic!("{text} is missing"));
        let positions = [
            position("-- layout:"),
            position("-- wake:"),
            position("-- Part 1:"),
            position("-- state:"),
            position("-- Part 2:"),
        ];
        assert!(positions.is_sorted(), "{positions:?}");
        assert_eq!(source.matches("\nlocal META = ").count(), 1);
        // Part 1 of `settle` touches only `sticky_until`.
        let source = &SETTLE.source;
        let part_1 = source.find("-- Part 1:").expect("the script has this part");
        assert!(!source[..part_1].contains("local STICKY = ") && source[part_1..].contains("local STICKY = "));
    }

    #[test]
    fn only_scripts_that_store_new_data_may_be_refused_when_memory_is_full() {
        for script in all() {
            let shebang = script.source.lines().next().unwrap_or("");
            let may_write_anyway = shebang.contains("allow-oom") || shebang.contains("no-writes");
            let stores_new_data = ["enqueue", "patch", "progress", "put_schedule", "tick"].contains(&script.name);
            assert_eq!(may_write_anyway, !stores_new_data, "{}", script.name);
        }
    }
}
