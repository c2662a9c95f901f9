//! Measures Drover itself: the real binaries over HTTP and Redis, and queue-core for the figures of the library.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use drover_tests::RedisServer;
use queue_core::{Millis, NewMessage, Queue, QueueStatus, Queues, Redis, Timestamp, settings::DeclaredSettings};
use serde_json::{json, value::to_raw_value};
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    Result,
    cost::Cost,
    load::{self, LoadResult, Until, to_f64},
    service::Service,
    times::{Times, wall_millis},
};

/// The queue for which the default configuration of the worker has a route.
pub(crate) const QUEUE: &str = "my-queue";
/// The number of messages in each batch that the bench posts.
pub(crate) const BATCH_SIZE: usize = 1_000;
/// The time limit of one measurement of the bench.
const TIME_LIMIT: Duration = Duration::from_secs(180);
/// The number of messages for the handlers that take 10 ms: more messages than the workers can handle during the measurement.
const MESSAGE_COUNT_FOR_10_MS_HANDLERS: usize = 120_000;
const ONE_HOUR: Millis = Millis::from_hours(1);

/// The throughput of four workers whose handlers take 10 ms.
pub(crate) struct TenMillisThroughput {
    /// The number of handled messages per second. Four workers that run 25 handlers each at a time could handle at most 10,000
    /// messages per second, because each handler takes 10 ms.
    pub(crate) per_second: f64,
    /// The total run time of the handlers, divided by the 100 handlers that may run at a time and by the measured time. A handler
    /// runs somewhat longer than 10 ms, because its timer ends somewhat late.
    pub(crate) busy_share: f64,
    /// The rate of the three workers that remain when one of four is killed, from 1 s after the deadlines of the killed worker's
    /// leases, divided by their rate before.
    pub(crate) rate_share_after_kill: f64,
}

/// The worker processes of a drain.
pub(crate) struct DrainWorkers {
    pub(crate) count: usize,
    /// `worker.concurrency`; `None` for the default.
    pub(crate) concurrency: Option<usize>,
    /// `log.filter`. With `warn`, the handler `log` does nothing; with the default `info`, the handler writes a line for each message.
    pub(crate) log_filter: &'static str,
}

impl DrainWorkers {
    /// One worker with the default concurrency, whose handler does nothing.
    pub(crate) const ONE: Self = Self { count: 1, concurrency: None, log_filter: "warn" };
}

/// A private Redis, and a queue-core client for it.
pub(crate) struct Drover {
    redis: RedisServer,
    runtime: Runtime,
    queues: Queues,
}

impl Drover {
    pub(crate) fn with_redis(redis: RedisServer) -> Result<Self> {
        let queues = Queues::new(Redis::new(&redis.url(), Redis::DEFAULT_TIME_LIMIT)?, DeclaredSettings::default());
        let drover = Self { redis, runtime: Runtime::new()?, queues };
        // The queue exists from its first setting on; this setting has its default.
        drover.runtime.block_on(drover.queue(QUEUE)?.configure(&json!({"max_attempts": 3})))?;
        Ok(drover)
    }

    fn queue(&self, name: &str) -> Result<Arc<Queue>> {
        Ok(self.queues.queue(&name.parse()?))
    }

    /// The URL of the private Redis.
    pub(crate) fn url(&self) -> String {
        self.redis.url()
    }

    pub(crate) fn queue_status(&self) -> Result<QueueStatus> {
        let status = self.runtime.block_on(self.queue(QUEUE)?.status())?;
        status.ok_or_else(|| "the queue does not exist".into())
    }

    fn start_api(&self) -> Result<Service> {
        let mut api = Service::start_binary("producer-api", &self.redis.url(), &[])?;
        api.ignore_log();
        Ok(api)
    }

    /// Starts a worker with this `worker.concurrency`, or with the default one.
    fn start_worker(&self, concurrency: Option<usize>, filter: &str) -> Result<Service> {
        let mut env = vec![("DROVER__LOG__FILTER", filter.into())];
        env.extend(concurrency.map(|concurrency| ("DROVER__WORKER__CONCURRENCY", concurrency.to_string())));
        Service::start_binary("consumer-worker", &self.redis.url(), &env)
    }

    /// Enqueues with the library, in batches of 1,000 from four tasks, and returns the elapsed time.
    pub(crate) fn enqueue(&self, messages: usize, delay: Option<Millis>) -> Result<Duration> {
        let queue = self.queue(QUEUE)?;
        self.runtime.block_on(async {
            let started_at = Instant::now();
            let mut tasks: JoinSet<Result<()>> = JoinSet::new();
            for task in 0..4 {
                let queue = Arc::clone(&queue);
                tasks.spawn(async move {
                    for index in (0..messages.div_ceil(BATCH_SIZE)).skip(task).step_by(4) {
                        let message_numbers = index * BATCH_SIZE..messages.min((index + 1) * BATCH_SIZE);
                        let batch = message_numbers.map(|n| new_message(n, delay)).collect::<Result<_>>()?;
                        queue.enqueue(batch).await?;
                    }
                    Ok(())
                });
            }
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Ok(started_at.elapsed())
        })
    }

    /// Measures four workers of concurrency 25, whose handlers sleep for 10 ms, on a long waiting list, before and after one of
    /// the workers is killed.
    pub(crate) fn run_10_ms_handlers(&self) -> Result<TenMillisThroughput> {
        let queue = self.queue(QUEUE)?;
        let visibility_timeout = Duration::from_secs(2);
        let settings = json!({"visibility_timeout": "2s"});
        self.runtime.block_on(queue.configure(&settings))?;
        self.runtime.block_on(queue.pause())?;
        for _ in 0..MESSAGE_COUNT_FOR_10_MS_HANDLERS / BATCH_SIZE {
            let batch = (0..BATCH_SIZE).map(|_| Ok(NewMessage::new(to_raw_value(&json!({"ms": 10}))?)));
            self.runtime.block_on(queue.enqueue(batch.collect::<Result<_>>()?))?;
        }
        let env = [("DROVER__WORKER__CONCURRENCY", "25".into()), ("DROVER__LOG__FILTER", "warn".into())];
        let mut workers = Vec::new();
        for _ in 0..4 {
            let mut worker = Service::start_sleeper(&self.redis.url(), &env)?;
            worker.ignore_log();
            workers.push(worker);
        }
        self.runtime.block_on(queue.resume())?;
        thread::sleep(Duration::from_millis(1_500));
        let handler_seconds = || workers.iter().map(Service::handler_seconds).sum::<Result<f64>>();
        let (before, busy_before, start) = (self.queue_status()?.totals.completed, handler_seconds()?, Instant::now());
        thread::sleep(Duration::from_secs(4));
        let (status, busy, elapsed) = (self.queue_status()?, handler_seconds()? - busy_before, start.elapsed());
        if status.counts.waiting == 0 {
            return Err("the waiting list was empty before the measurement ended".into());
        }
        let per_second = to_f64(usize::try_from(status.totals.completed - before)?) / elapsed.as_secs_f64();
        let busy_share = busy / elapsed.as_secs_f64() / 100.0;
        drop(workers.pop());
        thread::sleep(visibility_timeout + Duration::from_secs(1));
        let (before, start) = (self.queue_status()?.totals, Instant::now());
        thread::sleep(Duration::from_secs(2));
        let (after, elapsed) = (self.queue_status()?, start.elapsed());
        if before.lapsed == 0 || after.counts.waiting == 0 {
            return Err(
                "no lease of the killed worker lapsed, or the waiting list was empty before the measurement ended"
                    .into(),
            );
        }
        let rate_after_kill =
            to_f64(usize::try_from(after.totals.completed - before.completed)?) / elapsed.as_secs_f64();
        Ok(TenMillisThroughput { per_second, busy_share, rate_share_after_kill: rate_after_kill / (per_second * 0.75) })
    }

    /// Drains this many messages with these worker processes, and returns the messages per second.
    pub(crate) fn drain(&self, messages: usize, workers: &DrainWorkers) -> Result<f64> {
        self.enqueue_paused(messages)?;
        let mut running_workers = Vec::new();
        for _ in 0..workers.count {
            let mut worker = self.start_worker(workers.concurrency, workers.log_filter)?;
            worker.ignore_log();
            running_workers.push(worker);
        }
        self.drain_paused(messages)
    }

    /// Pauses the queue and enqueues messages; [`drain_paused`](Self::drain_paused) resumes the queue.
    pub(crate) fn enqueue_paused(&self, messages: usize) -> Result<()> {
        self.runtime.block_on(self.queue(QUEUE)?.pause())?;
        self.enqueue(messages, None).map(drop)
    }

    /// Resumes the queue, waits until the running workers have drained it, and returns the messages per second.
    pub(crate) fn drain_paused(&self, messages: usize) -> Result<f64> {
        let completed_before = self.queue_status()?.totals.completed;
        let started_at = Instant::now();
        self.runtime.block_on(self.queue(QUEUE)?.resume())?;
        let length_command = format!("LLEN drover:{{{QUEUE}}}:waiting");
        while self.redis.command(&length_command) != ":0" || self.queue_status()?.counts.active > 0 {
            if started_at.elapsed() > TIME_LIMIT {
                return Err("the queue is not drained".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        let elapsed = started_at.elapsed();
        let (status, messages) = (self.queue_status()?, u64::try_from(messages)?);
        // Delayed messages of earlier single POSTs may have become due while the workers emptied the queue. Such messages count as
        // completed too.
        let (totals, completed) = (&status.totals, status.totals.completed - completed_before);
        if completed < messages || totals.enqueued != totals.completed + status.counts.delayed {
            return Err(
                format!("{completed} of {messages} messages were completed: {totals:?}, {:?}", status.counts).into()
            );
        }
        Ok(to_f64(usize::try_from(completed)?) / elapsed.as_secs_f64())
    }

    /// Posts batches of 1,000 over four connections, and returns the messages per second.
    pub(crate) fn post_batches(&self, messages: usize) -> Result<f64> {
        let batch: Vec<_> = (0..BATCH_SIZE).map(|n| json!({"data": message_payload(n)})).collect();
        let body = json!({"messages": batch}).to_string();
        let request = load::post_request(&format!("/v1/queues/{QUEUE}/messages/batch"), "application/json", &body);
        self.post_bulk(messages, vec![request; messages / BATCH_SIZE], BATCH_SIZE)
    }

    /// Posts NDJSON over four connections, one request on each, and returns the messages per second.
    pub(crate) fn post_ndjson(&self, messages: usize) -> Result<f64> {
        let lines_per_request = messages / 4;
        let ndjson_body: String =
            (0..lines_per_request).map(|n| json!({"data": message_payload(n)}).to_string() + "\n").collect();
        let request =
            load::post_request(&format!("/v1/queues/{QUEUE}/messages/batch"), "application/x-ndjson", &ndjson_body);
        self.post_bulk(lines_per_request * 4, vec![request; 4], lines_per_request)
    }

    fn post_bulk(&self, messages: usize, requests: Vec<Vec<u8>>, messages_per_request: usize) -> Result<f64> {
        let api = self.start_api()?;
        let enqueued_before = self.queue_status()?.totals.enqueued;
        let load_result = load::send_load(api.address(), requests, 4, Until::AllSent)?;
        self.check_stored(enqueued_before, load_result.requests * messages_per_request)?;
        Ok(to_f64(messages) / load_result.elapsed.as_secs_f64())
    }

    /// Posts one message per request, due in 1.5 s, over this many connections. Returns the result of the load, and the API's
    /// peak memory in MiB.
    pub(crate) fn post_singles(&self, connections: usize, seconds: u64) -> Result<(LoadResult, f64)> {
        let api = self.start_api()?;
        let request = single_post(&format!("/v1/queues/{QUEUE}/messages"));
        load::send_load(api.address(), vec![request.clone()], connections, Until::Elapsed(Duration::from_secs(1)))?;
        let enqueued_before = self.queue_status()?.totals.enqueued;
        let load_result =
            load::send_load(api.address(), vec![request], connections, Until::Elapsed(Duration::from_secs(seconds)))?;
        self.check_stored(enqueued_before, load_result.requests)?;
        Ok((load_result, api.memory_mib()?.1))
    }

    /// Posts this many messages a second over 50 connections. The time of a POST is measured from the instant at which it is
    /// due to be sent.
    pub(crate) fn post_steadily(&self, per_second: f64, seconds: u64) -> Result<LoadResult> {
        let (api, before) = (self.start_api()?, self.queue_status()?.totals.enqueued);
        let request = single_post(&format!("/v1/queues/{QUEUE}/messages"));
        let until = Until::Paced { duration: Duration::from_secs(seconds), per_second };
        let load_result = load::send_load(api.address(), vec![request], 50, until)?;
        self.check_stored(before, load_result.requests)?;
        Ok(load_result)
    }

    /// Posts one message per request to this many queues in turn.
    pub(crate) fn post_to_queues(&self, queues: usize, seconds: u64) -> Result<LoadResult> {
        let api = self.start_api()?;
        let requests: Vec<_> = (0..queues).map(|n| single_post(&format!("/v1/queues/q{n}/messages"))).collect();
        load::send_load(api.address(), requests.clone(), 50, Until::AllSent)?;
        load::send_load(api.address(), requests, 50, Until::Elapsed(Duration::from_secs(seconds)))
    }

    /// Fails unless this many messages were stored since the queue's total of posted messages was `before`.
    pub(crate) fn check_stored(&self, before: u64, messages: usize) -> Result<()> {
        let stored_count = usize::try_from(self.queue_status()?.totals.enqueued - before)?;
        if stored_count == messages {
            Ok(())
        } else {
            Err(format!("{stored_count} messages are stored, but {messages} posts were answered with success").into())
        }
    }

    /// Measures the cost of a message in Redis from its enqueue to its result: CPU time in µs, commands, bytes while it waits,
    /// bytes when it is completed, and the worker's peak memory in MiB.
    pub(crate) fn measure_cost(&self, messages: usize) -> Result<[f64; 5]> {
        let completed_before = self.queue_status()?.totals.completed;
        self.redis.command("CONFIG RESETSTAT");
        let cost_before = Cost::read(&self.redis)?;
        self.enqueue(messages, None)?;
        let waiting_cost = Cost::read(&self.redis)?;
        let mut worker = self.start_worker(None, "warn")?;
        worker.ignore_log();
        let started_at = Instant::now();
        let unfinished_keys = ["waiting", "leased"].map(|key| format!("EXISTS drover:{{{QUEUE}}}:{key}"));
        while unfinished_keys.iter().any(|exists| self.redis.command(exists) != ":0") {
            if started_at.elapsed() > TIME_LIMIT {
                return Err("the queue is not drained".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        let completed_cost = Cost::read(&self.redis)?;
        let completed = self.queue_status()?.totals.completed - completed_before;
        if completed != u64::try_from(messages)? {
            return Err(format!("{completed} of {messages} messages were completed").into());
        }
        let per_message = |from: f64, to: f64| (to - from) / to_f64(messages);
        Ok([
            per_message(cost_before.cpu_us, completed_cost.cpu_us),
            per_message(0.0, completed_cost.command_count),
            per_message(cost_before.memory_bytes, waiting_cost.memory_bytes),
            per_message(cost_before.memory_bytes, completed_cost.memory_bytes),
            worker.memory_mib()?.1,
        ])
    }

    /// Measures the time from the enqueue of a message until the log line of the handler in an idle worker. One message is
    /// enqueued every 20 ms.
    pub(crate) fn measure_latency(&self, messages: usize) -> Result<Times> {
        let (mut worker, times) = (self.start_worker(None, "info")?, Arc::new(Mutex::new(Times::default())));
        worker.follow_log(record_elapsed_since(&times));
        let queue = self.queue(QUEUE)?;
        thread::sleep(Duration::from_millis(500));
        for _ in 0..messages {
            let message = NewMessage::new(to_raw_value(&json!({"since": wall_millis()}))?);
            self.runtime.block_on(queue.enqueue(vec![message]))?;
            thread::sleep(Duration::from_millis(20));
        }
        wait_for_times(&times, messages)
    }

    /// Measures the time from a message's due time until the handler's log line; the due times are spread over 2 s.
    pub(crate) fn measure_lateness(&self, messages: usize) -> Result<Times> {
        let (mut worker, times) = (self.start_worker(None, "info")?, Arc::new(Mutex::new(Times::default())));
        worker.follow_log(record_elapsed_since(&times));
        let base_millis = wall_millis().trunc() + 2_000.0;
        let due_millis = |n: usize| base_millis + (to_f64(n) * 2_000.0 / to_f64(messages)).trunc();
        let batch = (0..messages).map(|n| {
            let message_data = to_raw_value(&json!({"since": due_millis(n)}))?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the present time fits into a u64"
            )]
            let deliver_at = Timestamp::from_millis(due_millis(n) as u64);
            Ok(NewMessage { deliver_at: Some(deliver_at), ..NewMessage::new(message_data) })
        });
        let batch: Vec<NewMessage> = batch.collect::<Result<_>>()?;
        for chunk in batch.chunks(BATCH_SIZE) {
            self.runtime.block_on(self.queue(QUEUE)?.enqueue(chunk.to_vec()))?;
        }
        wait_for_times(&times, messages)
    }
}

/// Returns a function that reads a log line of a handler, and records the time since the instant in the field `since` of the
/// message's data.
fn record_elapsed_since(times: &Arc<Mutex<Times>>) -> impl FnMut(&str) + Send + 'static {
    let times = Arc::clone(times);
    move |line| {
        let now = wall_millis();
        let text_from_instant =
            line.split("since").nth(1).map(|rest| rest.trim_start_matches(|char: char| !char.is_ascii_digit()));
        let start_millis = text_from_instant.and_then(|rest| rest.split('}').next()?.parse::<f64>().ok());
        if let (Some(start_millis), Ok(mut times)) = (start_millis, times.lock()) {
            times.record_millis(now - start_millis);
        }
    }
}

/// Waits until the reader of the log has recorded this many durations, and returns the recorded durations.
fn wait_for_times(times: &Mutex<Times>, messages: usize) -> Result<Times> {
    let started_at = Instant::now();
    loop {
        let mut recorded_times = times.lock().map_err(|_| "the thread that reads the log panicked")?;
        if recorded_times.len() >= messages {
            return Ok(std::mem::take(&mut *recorded_times));
        }
        drop(recorded_times);
        if started_at.elapsed() > TIME_LIMIT {
            return Err("not every message was handled".into());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The data of a measured message, about 160 bytes, the same for Drover and for the other systems.
fn message_payload(n: usize) -> serde_json::Value {
    json!({"to": "user@example.com", "subject": "hello", "n": n, "body": "x".repeat(100)})
}

pub(crate) fn new_message(n: usize, delay: Option<Millis>) -> Result<NewMessage> {
    Ok(NewMessage {
        delay: delay.map(Millis::try_into).transpose()?,
        ..NewMessage::new(to_raw_value(&message_payload(n))?)
    })
}

/// A request that posts one message, due in 1.5 s.
pub(crate) fn single_post(path: &str) -> Vec<u8> {
    load::post_request(path, "application/json", &json!({"data": message_payload(1), "delay": 1_500}).to_string())
}

impl Drover {
    /// Creates a backlog: this many delayed messages, and as many completed messages, all of which the queue keeps.
    pub(crate) fn create_backlog(&self, messages: usize) -> Result<()> {
        let settings = json!({"retention": {"completed": {"count": 100_000_000}}});
        self.runtime.block_on(self.queue(QUEUE)?.configure(&settings))?;
        self.enqueue(messages, Some(ONE_HOUR))?;
        self.drain(messages, &DrainWorkers::ONE).map(drop)
    }
}
