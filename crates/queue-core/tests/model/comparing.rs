//! After each step: what readers see, what an audit says, and every key, against the model.

use std::collections::BTreeMap;

use deadpool_redis::redis::{self, Value as Reply};
use queue_core::{MessageRef, State};
use serde_json::{Value, json};

use crate::{
    answers::show_message,
    keyspace::{Content, KeySpace},
    showing::{STATES, own_id},
    world::World,
};

const DUMP: &str = "
    local read = {
        string = function(key) return { redis.call('GET', key) } end,
        hash = function(key) return redis.call('HGETALL', key) end,
        list = function(key) return redis.call('LRANGE', key, 0, -1) end,
        set = function(key) return redis.call('SMEMBERS', key) end,
        stream = function(key)
            local entries = redis.call('XRANGE', key, '-', '+')
            for i, entry in ipairs(entries) do entries[i] = entry[1] .. ' ' .. table.concat(entry[2], ' ') end
            return entries
        end,
        zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
    }
    local reply = {}
    for _, key in ipairs(redis.call('KEYS', '*')) do
        local kind = redis.call('TYPE', key).ok
        reply[#reply + 1] = { key, kind, read[kind](key) }
    end
    return reply";

type Difference = Result<(), String>;

impl World {
    pub(crate) async fn compare(&mut self) -> Difference {
        self.compare_keys()?;
        self.compare_messages().await?;
        self.compare_status().await?;
        for (nth, state) in STATES.into_iter().enumerate() {
            self.compare_list(state, 1 + (self.ids.len() + nth) % 4).await?;
        }
        let audit = self.queue.audit().await.map_err(|error| error.to_string())?;
        match audit.findings.first() {
            Some(finding) => Err(format!("the audit says: {}", self.translate(&finding.to_string()))),
            None => Ok(()),
        }
    }

    fn compare_keys(&mut self) -> Difference {
        let real = self.read_key_space()?;
        let model = self.model.key_space();
        let keys: Vec<&String> = real.keys().chain(model.keys().filter(|key| !real.contains_key(*key))).collect();
        let different = keys.into_iter().filter(|key| real.get(*key) != model.get(*key));
        let told: Vec<String> = different
            .map(|key| format!("{key}\n      should be {:?}\n             is {:?}", model.get(key), real.get(key)))
            .collect();
        if told.is_empty() { Ok(()) } else { Err(format!("keys differ:\n    {}", told.join("\n    "))) }
    }

    fn read_key_space(&mut self) -> Result<KeySpace, String> {
        let dump: Vec<(String, String, Vec<String>)> =
            redis::cmd("EVAL").arg(DUMP).arg(0).query(&mut self.raw).map_err(|error| error.to_string())?;
        let mut keys = KeySpace::new();
        for (key, kind, texts) in dump {
            let texts: Vec<String> = match key.as_str() {
                "drover:{q}:clock" => continue,
                "drover:{q}:dedup" => texts.iter().map(|text| self.translate(&with_every_id(text))).collect(),
                _ => texts.iter().map(|text| self.translate(text)).collect(),
            };
            let pairs = || texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
            let mut content = match kind.as_str() {
                "string" => Content::Text(texts.concat()),
                "hash" => Content::Hash(pairs().collect()),
                "zset" => Content::Sorted(pairs().collect()),
                "list" | "stream" => Content::List(texts),
                _ => Content::Set(texts.into_iter().collect()),
            };
            if let ("drover:{q}:meta", Content::Hash(meta)) = (key.as_str(), &mut content) {
                // Drawn at random, and a matter of wake-ups.
                meta.remove("epoch").ok_or("the queue has no epoch")?;
                meta.remove("watch");
            }
            keys.insert(key, content);
        }
        Ok(keys)
    }

    /// Until when idle consumers have a timer (ms).
    pub(crate) fn watch(&mut self) -> Option<u64> {
        let watch: Reply = redis::cmd("HGET").arg("drover:{q}:meta").arg("watch").query(&mut self.raw).unwrap();
        redis::from_redis_value(watch).unwrap_or_default()
    }

    /// Every message that ever was, by Drover's id and by the producer's own.
    async fn compare_messages(&self) -> Difference {
        let by_id = (0..self.ids.len()).map(|number| (MessageRef::Id(self.ids[number].clone()), Some(number)));
        let by_own_id = (0..4).map(|own| (MessageRef::Own(own_id(own).parse().unwrap()), self.model.find_own_id(own)));
        let (refs, numbers): (Vec<_>, Vec<_>) = by_id.chain(by_own_id).unzip();
        let found = self.queue.read(&refs).await.map_err(|error| error.to_string())?;
        for ((message, number), asked) in found.iter().zip(numbers).zip(refs) {
            let real = message.as_ref().map_or(Value::Null, show_message);
            same(&format!("reading {asked}"), &self.translate_json(&real), &self.model.show_if_kept(number))?;
        }
        Ok(())
    }

    async fn compare_status(&self) -> Difference {
        let status = self.queue.status().await.map_err(|error| error.to_string())?;
        let real = status.map(|status| {
            let counts: BTreeMap<_, _> =
                State::ALL.into_iter().map(|state| (state.as_str(), status.counts.of(state))).collect();
            json!({
                "paused": status.paused,
                "counts": counts,
                "oldest_waiting_age": status.oldest_waiting_age,
                "settings": status.settings,
                "totals": status.totals,
            })
        });
        same("the status", &json!(real), &self.model.status())
    }

    /// Page by page.
    async fn compare_list(&self, state: &str, page: usize) -> Difference {
        let mut listed = vec![];
        let mut cursor = None;
        loop {
            let page = self.queue.list(state.parse().unwrap(), page, cursor.as_ref()).await;
            let page = page.map_err(|error| error.to_string())?;
            listed.extend(page.messages.iter().map(|message| message.data.get().to_owned()));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let expected: Vec<String> = self.model.list(state).iter().map(ToString::to_string).collect();
        same(&format!("the list of {state}, {page} a page"), &json!(listed), &json!(expected))
    }
}

pub(crate) fn same(what: &str, real: &Value, model: &Value) -> Difference {
    if real == model {
        return Ok(());
    }
    // Of a large answer only what differs.
    if let (Value::Object(real), Value::Object(model)) = (real, model) {
        for (field, value) in model {
            same(&format!("{what}, {field}"), real.get(field).unwrap_or(&Value::Null), value)?;
        }
    }
    Err(format!("{what}\n      should be {model}\n             is {real}"))
}

/// Runs of ids ("first+more") written out.
fn with_every_id(text: &str) -> String {
    let Some((head, runs)) = text.rsplit_once('\t') else { return text.to_owned() };
    let ids = runs.split(',').filter_map(|run| run.split_once('+')).flat_map(|(first, more)| {
        let first: u64 = first.parse().unwrap_or(0);
        (first..=first + more.parse::<u64>().unwrap_or(0)).map(|id| format!("{id:014}"))
    });
    format!("{head}\t{}", ids.collect::<Vec<_>>().join(","))
}
