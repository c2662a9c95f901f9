//! The Lua scripts, assembled from their fragments.
//!
//! The header of each script is read here, so that it can't drift from the code: `-- KEYS` names the keys that the
//! script touches, bound to upper-case locals; `-- USES` names the fragments that stand before its body.

use std::{
    fmt::Write,
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
    },
};

use deadpool_redis::redis::{self, Arg, Cmd};

use crate::{
    MAX_BYTES_PER_CALL, MAX_ERROR_BYTES, MAX_MESSAGES_PER_CALL, MAX_RESULT_BYTES, RUN_TIMEOUT_GRACE, Settings,
    keys::suffix,
};

/// Whether the scripts of this process take the time from the key `clock` beside a queue's others.
static CLOCK_IS_INJECTED: AtomicBool = AtomicBool::new(false);

/// Stands for the fragment `clock` in tests that move the time by hand: `drover:{<queue>}:clock` holds it in µs.
const INJECTED_CLOCK: &str = "\
local now_us = tonumber(redis.call('GET', (string.gsub(META, 'meta$', 'clock'))))
local now = math.floor(now_us / 1000)
";

/// Lets the scripts of this process take the time from the key `drover:{<queue>}:clock`, in µs since 1970. For tests; to be
/// called before anything else is.
#[doc(hidden)]
pub fn inject_clock() {
    CLOCK_IS_INJECTED.store(true, Ordering::Relaxed);
}

/// The data layout that this version reads and writes.
pub(crate) const LAYOUT: u32 = 3;

/// Runs, each perhaps with an error, that one call reads or writes at most, so that they are no more bytes than it may carry.
const MOST_RUNS: usize = 400;
const _: () = assert!(MOST_RUNS * (MAX_ERROR_BYTES + 1_024) <= MAX_BYTES_PER_CALL);

/// The same for outcomes, each perhaps with a result.
const MOST_RESULTS: usize = MAX_BYTES_PER_CALL / (MAX_RESULT_BYTES + MAX_ERROR_BYTES + 1_024);

/// The constants that the scripts and the library share. A script has those as locals that it names.
fn constants() -> [(&'static str, u64); 6] {
    let number = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    [
        ("DEFAULT_VISIBILITY", Settings::default().visibility_timeout.get()),
        ("MAX_MESSAGES", number(MAX_MESSAGES_PER_CALL)),
        ("MAX_BYTES", number(MAX_BYTES_PER_CALL)),
        ("MOST_RUNS", number(MOST_RUNS)),
        ("MOST_RESULTS", number(MOST_RESULTS)),
        ("RUN_TIMEOUT_GRACE", RUN_TIMEOUT_GRACE.get()),
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
        fn fragment(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("lua/fragments/", $name, ".lua"))),)*
                _ => None,
            }
        }
    };
}

fragments![
    "events",
    "waiters",
    "clock",
    "settings",
    "fields",
    "totals",
    "wake",
    "line",
    "held",
    "state",
    "run",
    "trim",
    "finish",
    "backoff",
    "timeout",
    "clock_step",
    "extra",
    "ready",
    "purged",
    "forget_purged",
    "places",
    "failed",
    "shown",
    "front",
    "comeback",
    "attempt",
    "recover",
    "expire",
    "due",
    "signal",
    "sweep",
    "tend",
    "limiter",
    "owner",
    "configure",
];

macro_rules! scripts {
    ($($name:ident = $file:literal),* $(,)?) => {
        $(pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::assemble($file, include_str!(concat!("lua/", $file, ".lua"))));)*

        /// The names of all of them.
        pub(crate) const NAMES: &[&str] = &[$($file),*];

        #[cfg(test)]
        fn all() -> Vec<&'static Script> {
            vec![$(&*$name),*]
        }
    };
}

scripts! {
    DECLARE = "declare", CONFIGURE = "configure", ENQUEUE = "enqueue", LEASE = "lease", SETTLE = "settle",
    EXTEND = "extend", PROGRESS = "progress", FIND_LEASES = "find_leases", GIVE_BACK = "give_back", GIVE_UP = "give_up",
    CANCEL = "cancel", ERASE = "erase", PROMOTE = "promote", RETRY = "retry", PURGE = "purge", DELETE = "delete",
    SIGNAL = "signal", TEND = "tend", READ = "read", LIST = "list", AWAIT = "await", STATUS = "status", AUDIT = "audit",
    LISTEN = "listen",
}

impl Script {
    fn assemble(name: &'static str, text: &'static str) -> Self {
        let (shebang, body) = text.split_once('\n').unwrap_or((text, ""));
        let keys: Vec<&'static str> = header_words(text, "-- KEYS ")
            .map(|word| {
                *suffix::ALL.iter().find(|suffix| **suffix == word).unwrap_or_else(|| {
                    unreachable!("{name}.lua names the key {word}: a unit test assembles every script")
                })
            })
            .collect();
        // As locals they are found at once.
        let mut source = format!("{shebang}\nlocal ARGV = ARGV\n");
        for (index, key) in keys.iter().enumerate() {
            writeln!(source, "local {} = KEYS[{}]", key.to_uppercase(), index + 1)
                .expect("writing to a string does not fail");
        }
        let uses: Vec<&str> = header_words(text, "-- USES ").collect();
        if !shebang.contains("no-writes") {
            write!(source, "local KNOWN_LAYOUT = {LAYOUT}\n{}", include_str!("lua/fragments/layout.lua"))
                .expect("writing to a string does not fail");
        } else if uses.contains(&"purged") {
            source += "local purged_to = redis.call('HGET', META, 'purged_to')\n";
        }
        let constants_at = source.len();
        for used in uses {
            if used == "settings" {
                source += &defaults();
            }
            let is_injected = used == "clock" && CLOCK_IS_INJECTED.load(Ordering::Relaxed);
            source += if is_injected { Some(INJECTED_CLOCK) } else { fragment(used) }.unwrap_or_else(|| {
                unreachable!("{name}.lua uses the fragment {used}: a unit test assembles every script")
            });
            if used == "clock" {
                source += include_str!("lua/fragments/instants.lua");
            }
        }
        source += body;
        for (constant, value) in constants() {
            if source.contains(constant) {
                source.insert_str(constants_at, &format!("local {constant} = {value}\n"));
            }
        }
        let sha = redis::Script::new(&source).get_hash().to_owned();
        Self { name, keys, sha, source }
    }

    /// A call of this script by its SHA, as a call that brings the script along; Redis keeps it.
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

/// The library's own defaults, as the fragment `settings` reads them.
fn defaults() -> String {
    let mut table = String::from("local DEFAULTS = {\n");
    // A setting that is none or off is none in Lua.
    for (name, json) in Settings::default().texts().into_iter().filter(|(_, json)| json != "null" && json != "false") {
        writeln!(table, "  ['{name}'] = '{json}',").expect("writing to a string does not fail");
    }
    table + "}\n"
}

/// The words of a header line.
fn header_words(text: &'static str, start: &str) -> impl Iterator<Item = &'static str> {
    let line = text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("");
    line.split_whitespace()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PROTOCOL: &str = include_str!("../../../docs/PROTOCOL.md");

    /// What the rows of the tables in one section of the protocol page are about: the code in the first column.
    fn documented(section: &str) -> BTreeSet<&'static str> {
        let (_, after) = PROTOCOL.split_once(&format!("\n## {section}\n")).expect("the page has this section");
        let section = after.split("\n## ").next().unwrap_or(after);
        let first_cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
        first_cells.filter_map(|cell| cell.split('`').nth(1)).collect()
    }

    #[test]
    fn the_protocol_page_names_every_key_and_no_other() {
        assert_eq!(documented("Keys"), suffix::ALL.into_iter().collect());
    }

    #[test]
    fn the_protocol_page_names_every_script_and_no_other() {
        assert_eq!(documented("Scripts"), all().into_iter().map(|script| script.name).collect());
    }

    #[test]
    fn the_protocol_page_names_every_setting() {
        let (_, after) = PROTOCOL.split_once("\n## The fields of `meta`\n").expect("the page has this section");
        let section = after.split("\n## ").next().unwrap_or(after);
        for name in Settings::default().stored().into_keys() {
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

    #[test]
    fn only_what_stores_anew_may_be_refused_when_memory_is_full() {
        for script in all() {
            let shebang = script.source.lines().next().unwrap_or("");
            let may_write_anyway = shebang.contains("allow-oom") || shebang.contains("no-writes");
            let stores_anew = ["enqueue", "progress"].contains(&script.name);
            assert_eq!(may_write_anyway, !stores_anew, "{}", script.name);
        }
    }
}
