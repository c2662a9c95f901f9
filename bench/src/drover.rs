//! Drover's own figures: the real binaries over their real interfaces, and the library where a figure is about it.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use drover_tests::RedisServer;
use queue_core::{DeclaredSettings, Millis, NewMessage, Queue, QueueStatus, Queues, Redis, Timestamp};
use serde_json::{json, value::to_raw_value};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Result,
    cost::Cost,
    load::{self, Loaded, Until, count},
    service::Service,
    times::{Times, wall_millis},
};

/// The queue that the default configuration routes.
pub(crate) const QUEUE: &str = "my-queue";
/// Messages of a batch.
pub(crate) const BATCH: usize = 1_000;
/// Nothing that is measured takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
const AN_HOUR: Millis = Millis::from_hours(1);

/// A private Redis, and the library on it.
pub(crate) struct Drover {
    redis: RedisServer,
    runtime: Runtime,
    queues: Queues,
}

impl Drover {
    pub(crate) fn on(redis: RedisServer) -> Result<Self> {
        let queues = Queues::new(Redis::new(&redis.url(), Redis::DEFAULT_TIME_LIMIT)?, DeclaredSettings::default());
        let drover = Self { redis, runtime: Runtime::new()?, queues };
        // Or a long bench would see the first messages go by count while it still counts them.
        let kept = json!({"retention": {"completed": {"count": 100_000_000}}});
        drover.runtime.block_on(drover.queue(QUEUE)?.configure(&kept))?;
        Ok(drover)
    }

    fn queue(&self, name: &str) -> Result<Arc<Queue>> {
        Ok(self.queues.queue(&name.parse()?))
    }

    /// The URL of its Redis.
    pub(crate) fn url(&self) -> String {
        self.redis.url()
    }

    pub(crate) fn status(&self) -> Result<QueueStatus> {
        let status = self.runtime.block_on(self.queue(QUEUE)?.status())?;
        status.ok_or_else(|| "the queue is gone".into())
    }

    fn api(&self) -> Result<Service> {
        let mut api = Service::drover("producer-api", &self.redis.url(), &[])?;
        api.ignore_log();
        Ok(api)
    }

    fn worker(&self, concurrency: usize, filter: &str) -> Result<Service> {
        let env = [("DROVER__WORKER__CONCURRENCY", concurrency.to_string()), ("DROVER__LOG__FILTER", filter.into())];
        Service::drover("consumer-worker", &self.redis.url(), &env)
    }

    /// Enqueues with the library, in batches of 1,000 over four tasks. Answers how long it took.
    pub(crate) fn enqueue(&self, messages: usize, delay: Option<Millis>) -> Result<Duration> {
        let queue = self.queue(QUEUE)?;
        self.runtime.block_on(async {
            let start = Instant::now();
            let mut tasks: JoinSet<Result<()>> = JoinSet::new();
            for task in 0..4 {
                let queue = Arc::clone(&queue);
                tasks.spawn(async move {
                    for batch in (0..messages.div_ceil(BATCH)).skip(task).step_by(4) {
                        let numbers = batch * BATCH..messages.min((batch + 1) * BATCH);
                        let batch = numbers.map(|n| message(n, delay)).collect::<Result<_>>()?;
                        queue.enqueue(batch).await?;
                    }
                    Ok(())
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(start.elapsed())
        })
    }

    /// Drains so many messages with so many worker processes; messages a second.
    pub(crate) fn drain(&self, messages: usize, workers: usize, concurrency: usize) -> Result<f64> {
        self.fill(messages)?;
        let mut services = Vec::new();
        for _ in 0..workers {
            let mut worker = self.worker(concurrency, "warn")?;
            worker.ignore_log();
            services.push(worker);
        }
        self.empty(messages)
    }

    /// Enqueues so many messages that wait until [`empty`](Self::empty) lets the workers have them.
    pub(crate) fn fill(&self, messages: usize) -> Result<()> {
        self.runtime.block_on(self.queue(QUEUE)?.pause())?;
        self.enqueue(messages, None).map(drop)
    }

    /// Has so many messages drained, by whatever workers there are; messages a second.
    pub(crate) fn empty(&self, messages: usize) -> Result<f64> {
        let before = self.status()?.totals.completed;
        let start = Instant::now();
        self.runtime.block_on(self.queue(QUEUE)?.resume())?;
        let length = format!("LLEN drover:{{{QUEUE}}}:waiting");
        while self.redis.command(&length) != ":0" || self.status()?.counts.active > 0 {
            if start.elapsed() > PATIENCE {
                return Err("the queue is not drained".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let took = start.elapsed();
        let (status, messages) = (self.status()?, u64::try_from(messages)?);
        // What single POSTs left delayed may have become due and been drained too.
        let (totals, completed) = (&status.totals, status.totals.completed - before);
        if completed < messages || totals.enqueued != totals.completed + status.counts.delayed {
            return Err(format!("{completed} of {messages} were completed: {totals:?}, {:?}", status.counts).into());
        }
        Ok(count(usize::try_from(completed)?) / took.as_secs_f64())
    }

    /// Posts batches of 1,000 over four connections; messages a second.
    pub(crate) fn post_batches(&self, messages: usize) -> Result<f64> {
        let batch: Vec<_> = (0..BATCH).map(|n| json!({"data": data(n)})).collect();
        let body = json!({"messages": batch}).to_string();
        let request = load::post(&format!("/v1/queues/{QUEUE}/messages/batch"), "application/json", &body);
        self.bulk(messages, vec![request; messages / BATCH], BATCH)
    }

    /// Posts lines over four connections, one request each; messages a second.
    pub(crate) fn post_lines(&self, messages: usize) -> Result<f64> {
        let each = messages / 4;
        let lines: String = (0..each).map(|n| json!({"data": data(n)}).to_string() + "\n").collect();
        let request = load::post(&format!("/v1/queues/{QUEUE}/messages/batch"), "application/x-ndjson", &lines);
        self.bulk(each * 4, vec![request; 4], each)
    }

    fn bulk(&self, messages: usize, requests: Vec<Vec<u8>>, each: usize) -> Result<f64> {
        let api = self.api()?;
        let before = self.status()?.totals.enqueued;
        let loaded = load::send(api.address(), requests, 4, Until::AllSent)?;
        self.check_stored(before, loaded.requests * each)?;
        Ok(count(messages) / loaded.took.as_secs_f64())
    }

    /// Posts one message a request, due in 1.5 s, over so many connections; with the API's memory afterwards in MiB.
    pub(crate) fn post_singles(&self, connections: usize, seconds: u64) -> Result<(Loaded, f64)> {
        let api = self.api()?;
        let request = single(&format!("/v1/queues/{QUEUE}/messages"));
        load::send(api.address(), vec![request.clone()], connections, Until::Over(Duration::from_secs(1)))?;
        let before = self.status()?.totals.enqueued;
        let loaded = load::send(api.address(), vec![request], connections, Until::Over(Duration::from_secs(seconds)))?;
        self.check_stored(before, loaded.requests)?;
        Ok((loaded, api.memory()?.1))
    }

    /// Posts one message a request to so many queues in turn.
    pub(crate) fn post_to_queues(&self, queues: usize, seconds: u64) -> Result<Loaded> {
        let api = self.api()?;
        let requests: Vec<_> = (0..queues).map(|n| single(&format!("/v1/queues/q{n}/messages"))).collect();
        load::send(api.address(), requests.clone(), 50, Until::AllSent)?;
        load::send(api.address(), requests, 50, Until::Over(Duration::from_secs(seconds)))
    }

    /// Errs unless so many messages were stored since there were `before`.
    pub(crate) fn check_stored(&self, before: u64, messages: usize) -> Result<()> {
        let stored = usize::try_from(self.status()?.totals.enqueued - before)?;
        if stored == messages { Ok(()) } else { Err(format!("{stored} are stored of {messages} answered").into()) }
    }

    /// What a message costs Redis from its enqueue to its result: µs of CPU, commands, bytes while it waits and when it is
    /// completed; and the worker's memory in MiB.
    pub(crate) fn cost(&self, messages: usize, concurrency: usize) -> Result<[f64; 5]> {
        let length = format!("LLEN drover:{{{QUEUE}}}:completed");
        let completed: usize = self.redis.command(&length).trim_start_matches(':').parse()?;
        let all_completed = format!(":{}", completed + messages);
        self.redis.command("CONFIG RESETSTAT");
        let before = Cost::so_far(&self.redis)?;
        self.enqueue(messages, None)?;
        let waiting = Cost::so_far(&self.redis)?;
        let mut worker = self.worker(concurrency, "warn")?;
        worker.ignore_log();
        let start = Instant::now();
        while self.redis.command(&length) != all_completed {
            if start.elapsed() > PATIENCE {
                return Err("the queue is not drained".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let after = Cost::so_far(&self.redis)?;
        let each = |from: f64, to: f64| (to - from) / count(messages);
        Ok([
            each(before.cpu_us, after.cpu_us),
            each(0.0, after.calls),
            each(before.memory, waiting.memory),
            each(before.memory, after.memory),
            worker.memory()?.1,
        ])
    }

    /// From the call of the library until the handler's line of log has come, into an idle worker; one message each 20 ms.
    pub(crate) fn latency(&self, messages: usize) -> Result<Times> {
        let (mut worker, times) = (self.worker(10, "info")?, Arc::new(Mutex::new(Times::default())));
        worker.follow_log(note_since(&times));
        let queue = self.queue(QUEUE)?;
        thread::sleep(Duration::from_millis(500));
        for _ in 0..messages {
            let message = NewMessage::new(to_raw_value(&json!({"since": wall_millis()}))?);
            self.runtime.block_on(queue.enqueue(vec![message]))?;
            thread::sleep(Duration::from_millis(20));
        }
        all_of(&times, messages)
    }

    /// From the due instant until the handler's line of log has come: messages due over 2 s.
    pub(crate) fn lateness(&self, messages: usize) -> Result<Times> {
        let (mut worker, times) = (self.worker(100, "info")?, Arc::new(Mutex::new(Times::default())));
        worker.follow_log(note_since(&times));
        let base = wall_millis().trunc() + 2_000.0;
        let due = |n: usize| base + (count(n) * 2_000.0 / count(messages)).trunc();
        let batch = (0..messages).map(|n| {
            let data = to_raw_value(&json!({"since": due(n)}))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an instant of today")]
            let instant = Timestamp::from_millis(due(n) as u64);
            Ok(NewMessage { deliver_at: Some(instant), ..NewMessage::new(data) })
        });
        let batch: Vec<NewMessage> = batch.collect::<Result<_>>()?;
        for part in batch.chunks(BATCH) {
            self.runtime.block_on(self.queue(QUEUE)?.enqueue(part.to_vec()))?;
        }
        all_of(&times, messages)
    }
}

/// Notes how long ago the instant is that a line's data names.
fn note_since(times: &Arc<Mutex<Times>>) -> impl FnMut(&str) + Send + 'static {
    let times = Arc::clone(times);
    move |line| {
        let now = wall_millis();
        let since = line.split("since").nth(1).map(|rest| rest.trim_start_matches(|char: char| !char.is_ascii_digit()));
        let since = since.and_then(|rest| rest.split('}').next()?.parse::<f64>().ok());
        if let (Some(since), Ok(mut times)) = (since, times.lock()) {
            times.note_millis(now - since);
        }
    }
}

fn all_of(times: &Mutex<Times>, messages: usize) -> Result<Times> {
    let start = Instant::now();
    loop {
        let mut noted = times.lock().map_err(|_| "the log's reader broke")?;
        if noted.len() >= messages {
            return Ok(std::mem::take(&mut *noted));
        }
        drop(noted);
        if start.elapsed() > PATIENCE {
            return Err("not every message was handled".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The payload of every system: about 160 bytes.
fn data(n: usize) -> serde_json::Value {
    json!({"to": "user@example.com", "subject": "hello", "n": n, "body": "x".repeat(100)})
}

pub(crate) fn message(n: usize, delay: Option<Millis>) -> Result<NewMessage> {
    Ok(NewMessage { delay: delay.map(Millis::try_into).transpose()?, ..NewMessage::new(to_raw_value(&data(n))?) })
}

/// One message a request, due in 1.5 s.
pub(crate) fn single(path: &str) -> Vec<u8> {
    load::post(path, "application/json", &json!({"data": data(1), "delay": 1_500}).to_string())
}

impl Drover {
    /// Puts so many far-delayed and so many completed messages there.
    pub(crate) fn pile_up(&self, messages: usize, concurrency: usize) -> Result<()> {
        self.enqueue(messages, Some(AN_HOUR))?;
        self.drain(messages, 1, concurrency).map(drop)
    }
}
