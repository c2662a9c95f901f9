//! The Lua scripts, assembled from their fragments.
//!
//! This module reads the headers of scripts and fragments, so that a header can't differ from its code. `-- KEYS` names the
//! keys that the text itself touches, as upper-case locals; `-- USES` names the fragments that it calls. Fragments that these
//! fragments need are included too.

use std::{
    collections::BTreeSet,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use deadpool_redis::redis::{self, Arg, Cmd};

use crate::{limits, redis::keys::suffix, settings::Settings};

/// Whether the scripts of this process take the time from the key `clock` beside a queue's others.
static CLOCK_IS_INJECTED: AtomicBool = AtomicBool::new(false);

/// Replaces the fragment `clock` in tests that set the time by hand: the key `drover:{<queue>}:clock` has it in µs.
const INJECTED_CLOCK: &str = "\
local now_us = tonumber(redis.call('GET', (string.gsub(META, 'meta$', 'clock'))))
local now = math.floor(now_us / 1000)
";

/// Replaces the fragment `layout` in scripts that only read: they need no check of the layout, only `purged_to`.
const PURGED_TO: &str = "local purged_to = redis.call('HGET', META, 'purged_to')\n";

/// The effect of [`Redis::inject_clock`](crate::Redis::inject_clock).
pub(crate) fn inject_clock() {
    CLOCK_IS_INJECTED.store(true, Ordering::Relaxed);
}

/// The data layout that this version reads and writes.
pub(crate) const LAYOUT: u32 = 3;

/// The maximum number of runs that one call reads or writes: each may have an error, and together they must fit into one call.
const MAX_RUNS: usize = 400;
const _: () = assert!(MAX_RUNS * (limits::MAX_ERROR_BYTES + 1_024) <= limits::MAX_BYTES);

/// The maximum number of outcomes that one call reads: each may have a result.
const MAX_RESULTS: usize = limits::MAX_BYTES / (limits::MAX_RESULT_BYTES + limits::MAX_ERROR_BYTES + 1_024);

/// The constants that the scripts and the library share. A script gets the ones that it names as locals.
fn constants() -> [(&'static str, u64); 6] {
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    [
        ("DEFAULT_VISIBILITY", Settings::default().visibility_timeout.get()),
        ("MAX_MESSAGES", number(limits::MAX_MESSAGES)),
        ("MAX_BYTES", number(limits::MAX_BYTES)),
        ("MAX_RUNS", number(MAX_RUNS)),
        ("MAX_RESULTS", number(MAX_RESULTS)),
        ("RUN_TIMEOUT_GRACE", limits::RUN_TIMEOUT_GRACE.get()),
    ]
}

/// A script, ready to be sent.
pub(crate) struct Script {
    /// Its file's name, for errors.
    pub(crate) name: &'static str,
    /// The suffixes of the keys that it touches, in the order of KEYS.
    pub(crate) keys: Vec<&'static str>,
    pub(crate) sha: String,
    pub(crate) source: String,
}

macro_rules! fragments {
    ($($name:literal),* $(,)?) => {
        /// The fragments, by name.
        static FRAGMENTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../lua/lib/", $name, ".lua")))),*];
    };
}

fragments! {
    "attempt", "backoff", "clock", "clock_step", "configure", "cursors", "due", "events", "expire", "extra",
    "failed", "fields", "finish", "forget_purged", "front", "held", "instants", "layout", "limiter", "maintain", "owner",
    "purged", "ready", "recover", "remove_from_state", "requeue", "run", "settings", "shown", "signal", "state", "sweep",
    "timeout", "totals", "trim", "waiters", "waiting_list", "wake", "watch",
}

macro_rules! scripts {
    ($($folder:literal { $($name:ident = $file:literal),* $(,)? })*) => {
        $($(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::assemble($file, include_str!(concat!("../lua/", $folder, "/", $file, ".lua"))));)*)*

        /// The names of all scripts of queues.
        pub(crate) const NAMES: &[&str] = &[$($($file),*),*];

        #[cfg(test)]
        fn all() -> Vec<&'static Script> {
            vec![$($(&*$name),*),*]
        }

        #[cfg(test)]
        const TEXTS: &[&str] = &[$($(include_str!(concat!("../lua/", $folder, "/", $file, ".lua"))),*),*];
    };
}

scripts! {
    "produce" { DECLARE = "declare", ENQUEUE = "enqueue", SIGNAL = "signal" }
    "consume" {
        LEASE = "lease", SETTLE = "settle", EXTEND = "extend", PROGRESS = "progress", FIND_LEASES = "find_leases",
        GIVE_BACK = "give_back", GIVE_UP = "give_up",
    }
    "manage" {
        CANCEL = "cancel", CONFIGURE = "configure", DELETE = "delete", ERASE = "erase", PATCH = "patch", PROMOTE = "promote",
        PURGE = "purge", RETRY = "retry",
    }
    "inspect" { AUDIT = "audit", AWAIT = "await", LIST = "list", LISTEN = "listen", READ = "read", STATUS = "status" }
    "maintenance" { TEND = "tend" }
}

/// The name of the script of quotas, which belongs to no queue.
pub(crate) const QUOTA: &str = "quota";

impl Script {
    pub(crate) fn new(name: &'static str, keys: Vec<&'static str>, source: String) -> Self {
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { name, keys, sha, source }
    }

    fn assemble(name: &'static str, text: &'static str) -> Self {
        let (shebang, body) = text.split_once('\n').unwrap_or((text, ""));
        let writes = !shebang.contains("no-writes");
        let mut needs = Needs::default();
        if writes {
            // The check of the layout comes before everything else.
            needs.fragment("layout");
        }
        needs.of(text);
        let keys = needs.keys();
        let fragments = needs.fragments.into_iter().map(|(name, fragment)| match name {
            "layout" if writes => format!("local KNOWN_LAYOUT = {LAYOUT}\n{fragment}"),
            "layout" => PURGED_TO.into(),
            "clock" if CLOCK_IS_INJECTED.load(Ordering::Relaxed) => INJECTED_CLOCK.into(),
            "settings" => defaults() + fragment,
            _ => fragment.into(),
        });
        let code = fragments.collect::<String>() + body;
        // Lua reads locals faster than table fields.
        let local = |(name, value): (String, String)| format!("local {name} = {value}\n");
        let keys_and_indices = keys.iter().zip(1..);
        let locals: String = keys_and_indices
            .map(|(key, index)| (key.to_uppercase(), format!("KEYS[{index}]")))
            .chain(constants().into_iter().map(|(name, value)| (name.to_owned(), value.to_string())))
            .filter(|(name, _)| code.contains(name.as_str()))
            .map(local)
            .collect();
        let source = format!("{shebang}\nlocal ARGV = ARGV\n{locals}{code}");
        Self::new(name, keys, source)
    }

    /// Whether replicas must confirm the writes of this script.
    pub(crate) fn stores_messages(&self) -> bool {
        ["enqueue", "patch"].contains(&self.name)
    }

    /// Converts a call of this script by its SHA to a call that sends the whole script, which Redis then caches.
    pub(crate) fn whole(&self, by_sha: &Cmd) -> Cmd {
        let mut whole = redis::cmd("EVAL");
        whole.arg(&self.source);
        for arg in by_sha.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                whole.arg(arg);
            }
        }
        whole
    }
}

/// The fragments and keys that a script needs, directly or through other fragments.
#[derive(Default)]
struct Needs {
    /// Each fragment once, after the fragments that it uses.
    fragments: Vec<(&'static str, &'static str)>,
    keys: BTreeSet<&'static str>,
}

impl Needs {
    fn of(&mut self, text: &'static str) {
        self.keys.extend(header_words(text, "-- KEYS "));
        header_words(text, "-- USES ").for_each(|used| self.fragment(used));
    }

    fn fragment(&mut self, name: &str) {
        if self.fragments.iter().any(|(known, _)| *known == name) {
            return;
        }
        let found = FRAGMENTS.iter().find(|(known, _)| *known == name);
        let (name, text) =
            found.unwrap_or_else(|| unreachable!("no fragment {name}: a unit test assembles every script"));
        self.of(text);
        self.fragments.push((name, text));
    }

    /// The needed keys in the order of [`suffix::ALL`]; a header names each key, or all keys as `*`.
    fn keys(&self) -> Vec<&'static str> {
        suffix::ALL.iter().copied().filter(|key| self.keys.contains("*") || self.keys.contains(key)).collect()
    }
}

/// The defaults of settings as a Lua table, for the fragment `settings`.
fn defaults() -> String {
    // A setting that is null or false by default is nil in Lua.
    let set = Settings::default().texts().into_iter().filter(|(_, json)| json != "null" && json != "false");
    let entries: Vec<String> = set.map(|(name, json)| format!("['{name}'] = '{json}'")).collect();
    format!("local DEFAULTS = {{ {} }}\n", entries.join(", "))
}

/// The words of a header line.
fn header_words(text: &'static str, start: &str) -> impl Iterator<Item = &'static str> {
    let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("");
    line.split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = include_str!("../../../../docs/PROTOCOL.md");

    /// The names in the first column of the tables in one section of the protocol page.
    fn documented(section: &str) -> BTreeSet<&'static str> {
        let (_, after) = PROTOCOL.split_once(&format!("\n## {section}\n")).expect("the page has this section");
        let section = after.split("\n## ").next().unwrap_or(after);
        let first_cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        first_cells.filter_map(|cell| cell.split('`').nth(1)).collect()
    }

    #[test]
    fn the_protocol_page_names_every_key_and_no_other() {
        assert_eq!(documented("Keys"), suffix::ALL.iter().copied().collect());
    }

    #[test]
    fn the_protocol_page_names_every_script_and_no_other() {
        assert_eq!(documented("Scripts"), all().into_iter().map(|script| script.name).collect());
    }

    #[test]
    fn the_protocol_page_names_every_setting() {
        let (_, after) = PROTOCOL.split_once("\n## The fields of `meta`\n").expect("the page has this section");
        let section = after.split("\n## ").next().unwrap_or(after);
        for name in Settings::default().meta_fields().into_keys() {
            assert!(section.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn every_script_is_assembled_with_a_whole_header() {
        for script in all() {
            assert!(script.source.starts_with("#!lua"), "{}", script.name);
            assert!(!script.keys.is_empty(), "{}", script.name);
            for word in ["-- ARGV ", "-- Returns ", "-- Complexity "] {
                let has = script.source.contains(word) || (word == "-- ARGV " && script.name == "status");
                assert!(has, "{}.lua has no line {word}", script.name);
            }
        }
    }

    /// A text without its comments, in words.
    fn words(text: &str) -> Vec<&str> {
        let code = text.lines().map(|line| line.split("--").next().unwrap_or(line));
        code.flat_map(|line| line.split(|char: char| !char.is_alphanumeric() && char != '_')).collect()
    }

    fn functions(text: &str) -> impl Iterator<Item = &str> {
        text.lines().filter_map(|line| line.trim_start().strip_prefix("local function ")?.split('(').next())
    }

    #[test]
    fn each_text_names_the_keys_that_it_touches_and_the_fragments_that_it_calls() {
        for text in FRAGMENTS.iter().map(|(_, text)| *text).chain(TEXTS.iter().copied()) {
            let first_line = text.lines().nth(usize::from(text.starts_with("#!"))).unwrap_or(text);
            let keys: BTreeSet<&str> = header_words(text, "-- KEYS ").collect();
            assert!(keys.iter().all(|key| *key == "*" || suffix::ALL.contains(key)), "{first_line}: {keys:?}");
            let words = words(text);
            for key in suffix::ALL.iter().copied() {
                let is_touched = keys.contains("*") || words.contains(&key.to_uppercase().as_str());
                assert_eq!(is_touched, keys.contains("*") || keys.contains(key), "{first_line}: {key}");
            }
            let uses: BTreeSet<&str> = header_words(text, "-- USES ").collect();
            for (name, fragment) in FRAGMENTS.iter().filter(|(name, _)| !uses.contains(name)) {
                let others = functions(fragment).filter(|function| functions(text).all(|own| own != *function));
                for function in others.filter(|function| words.contains(function)) {
                    assert!(!text.contains(&format!("{function}(")), "{first_line}: {function} of {name}");
                }
            }
        }
    }

    #[test]
    fn only_scripts_that_store_new_data_may_be_refused_when_memory_is_full() {
        for script in all() {
            let shebang = script.source.lines().next().unwrap_or("");
            let may_write_anyway = shebang.contains("allow-oom") || shebang.contains("no-writes");
            let stores_anew = ["enqueue", "patch", "progress"].contains(&script.name);
            assert_eq!(may_write_anyway, !stores_anew, "{}", script.name);
        }
    }
}
