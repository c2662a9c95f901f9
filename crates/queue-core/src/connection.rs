use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_redis::{
    Connection, Manager, Pool, Runtime,
    redis::{
        self, AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Value, aio::MultiplexedConnection,
        io::tcp::TcpSettings,
    },
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::{Calls, Error, Result, calls, scripts::Script};

/// How many connections a process shares for its calls: one may carry a large answer while the other goes on.
const LANES: usize = 2;

/// The connections of one process to Redis.
///
/// Calls of many tasks travel over a few shared connections at once, without waiting for each other. A connection comes
/// from a deadpool pool, and goes when a call over it fails or does not end in time; the next call brings a new one.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    /// How many replicas must have what is enqueued before it counts as stored.
    replicas: u32,
}

struct Shared {
    client: Client,
    pool: Pool,
    lanes: [Lane; LANES],
    next_lane: AtomicUsize,
    /// For calls that wait for replicas: whatever comes after them over the same connection waits too.
    confirmed: Lane,
    time_limit: Duration,
    calls: Arc<Calls>,
}

impl Redis {
    /// The time limit of a call, when nothing else is said: 1.5 s.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_millis(1_500);

    /// Prepares connections to `url` (`redis://[user:password@]host:port[/db]`, or `unix:` and a path). Nothing is
    /// connected yet: Redis may come up later than this process.
    ///
    /// Every call, connecting included, is over after `time_limit`.
    ///
    /// # Errors
    ///
    /// When `url` is not one of Redis; the text does not repeat it, for it may hold a password.
    pub fn new(url: &str, time_limit: Duration) -> Result<Self, InvalidRedisUrl> {
        Self::with(url, time_limit, Arc::default())
    }

    /// As this one, with connections of its own: they belong to the tasks of the runtime that calls first. What it does is
    /// counted with the rest.
    ///
    /// # Errors
    ///
    /// None that [`new`](Self::new) did not have.
    pub fn apart(&self) -> Result<Self, InvalidRedisUrl> {
        let info = self.shared.client.get_connection_info().clone();
        let apart = Self::with(info, self.shared.time_limit, Arc::clone(&self.shared.calls))?;
        Ok(Self { replicas: self.replicas, ..apart })
    }

    fn with(info: impl IntoConnectionInfo, time_limit: Duration, calls: Arc<Calls>) -> Result<Self, InvalidRedisUrl> {
        let info = info
            .into_connection_info()
            .map_err(|error| InvalidRedisUrl(error.to_string()))?
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        // A call's time is limited as a whole, below; a limit on each answer of its own would only cut it short.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(Some(time_limit));
        let invalid = |error: redis::RedisError| InvalidRedisUrl(error.to_string());
        let client = Client::open(info.clone()).map_err(invalid)?;
        let manager = Manager::new_with_config(info, config).map_err(invalid)?;
        let pool = Pool::builder(manager)
            .max_size(LANES + 1)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| InvalidRedisUrl(error.to_string()))?;
        let lanes = std::array::from_fn(|_| Lane::default());
        let (next_lane, confirmed) = (AtomicUsize::new(0), Lane::default());
        let shared = Shared { client, pool, lanes, next_lane, confirmed, time_limit, calls };
        Ok(Self { shared: Arc::new(shared), replicas: 0 })
    }

    /// Lets what is enqueued count as stored only when so many replicas have it (Redis `WAIT`). Defaults to none.
    #[must_use]
    pub fn confirmed_by(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// The time limit of a call.
    pub fn time_limit(&self) -> Duration {
        self.shared.time_limit
    }

    /// How long this process's calls took, and how many failed.
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// Asks whether Redis answers and takes writes: a replica would answer to a PING as well. One whose memory is full is
    /// there, for it can be drained.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it does not.
    pub async fn ping(&self) -> Result<()> {
        let start = Instant::now();
        let mut ping = redis::cmd("EVAL");
        ping.arg("#!lua flags=allow-oom\nreturn 1").arg(0);
        let mut answer = self.call(&ping).await;
        // Connections may have outlived the server that they led to. That is found out by asking, and the next is a new one.
        for _ in 0..LANES {
            match answer {
                Err(CallError::Failed(Error::Unavailable(_))) if start.elapsed() < self.shared.time_limit / 2 => {
                    answer = self.call(&ping).await;
                }
                _ => break,
            }
        }
        answer.map_err(Error::from).map(drop)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Sends one command.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        self.over(calls::COMMAND, self.next_lane(), async |connection| command.query_async(connection).await).await
    }

    /// Sends the call of a script.
    pub(crate) async fn call_script(&self, script: &Script, command: &Cmd) -> Result<Value, CallError> {
        let called =
            self.over(script.name, self.next_lane(), async |connection| call_script(script, command, connection).await);
        called.await.map_err(|error| in_script(script, error))
    }

    /// As [`call_script`](Self::call_script), and waits until as many replicas have what it wrote as were asked for.
    ///
    /// Errs as not available when they don't have it in time; the primary has it then, and they may get it later.
    pub(crate) async fn call_script_confirmed(&self, script: &Script, command: &Cmd) -> Result<Value, CallError> {
        if self.replicas == 0 {
            return self.call_script(script, command).await;
        }
        let mut wait = redis::cmd("WAIT");
        // Half of the time, so that there is an answer before the call is out of it.
        wait.arg(self.replicas).arg(self.shared.time_limit.as_millis() / 2);
        let mut confirmed_by = 0;
        let called = self.over(script.name, &self.shared.confirmed, async |connection| {
            let answer = call_script(script, command, connection).await?;
            confirmed_by = wait.query_async(connection).await?;
            Ok(answer)
        });
        let answer = called.await.map_err(|error| in_script(script, error))?;
        if confirmed_by < self.replicas {
            let text = format!("{confirmed_by} of {} replicas have confirmed in time", self.replicas);
            let error = CallError::Failed(Error::Unavailable(text));
            self.shared.calls.note_failure(script.name, &error);
            return Err(error);
        }
        Ok(answer)
    }

    fn next_lane(&self) -> &Lane {
        &self.shared.lanes[self.shared.next_lane.fetch_add(1, Ordering::Relaxed) % LANES]
    }

    async fn over(
        &self,
        name: &'static str,
        lane: &Lane,
        call: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<Value>,
    ) -> Result<Value, CallError> {
        let start = Instant::now();
        let mut generation = None;
        let within_time = timeout(self.shared.time_limit, async {
            let (mut connection, of) = lane.connection(&self.shared.pool).await?;
            generation = Some(of);
            call(&mut connection).await.map_err(CallError::from)
        });
        let answer = within_time.await.unwrap_or_else(|_| {
            let waited = humantime::format_duration(self.shared.time_limit);
            Err(CallError::Failed(Error::Unavailable(format!("no answer within {waited}"))))
        });
        if let (Err(CallError::Failed(Error::Unavailable(_))), Some(generation)) = (&answer, generation) {
            lane.discard(generation);
        }
        self.shared.calls.note(name, start.elapsed(), answer.as_ref().err());
        answer
    }
}

/// With the whole script if Redis has forgotten it, so that it can't forget it in between.
async fn call_script(
    script: &Script,
    command: &Cmd,
    connection: &mut MultiplexedConnection,
) -> redis::RedisResult<Value> {
    match command.query_async(connection).await {
        Err(error) if error.code() == Some("NOSCRIPT") => script.whole(command).query_async(connection).await,
        answer => answer,
    }
}

/// Names the script in an error that makes no sense without it.
fn in_script(script: &Script, error: CallError) -> CallError {
    match error {
        CallError::Failed(Error::Unexpected(text)) => {
            CallError::Failed(Error::Unexpected(format!("{}.lua: {text}", script.name)))
        }
        other => other,
    }
}

/// What became of a call.
pub(crate) enum CallError {
    /// The queue has another epoch: declare it and repeat. Nothing was done.
    StaleEpoch,
    /// The queue has a newer data layout. Nothing was done.
    OtherLayout(u32),
    /// Anything else.
    Failed(Error),
}

impl From<redis::RedisError> for CallError {
    fn from(error: redis::RedisError) -> Self {
        match error.code() {
            Some("EPOCH") => Self::StaleEpoch,
            Some("LAYOUT") => Self::OtherLayout(leading_number(error.detail())),
            _ => Self::Failed(error.into()),
        }
    }
}

/// The number that an error begins with.
fn leading_number(detail: Option<&str>) -> u32 {
    detail.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// For commands that are about no queue.
impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(error) => error,
            CallError::StaleEpoch => Self::Unexpected("EPOCH".into()),
            CallError::OtherLayout(found) => Self::Unexpected(format!("LAYOUT {found}")),
        }
    }
}

/// A text is not the URL of a Redis.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not the URL of a Redis ({0}); expected redis://host:port, redis://user:password@host:port/db or unix:/path")]
pub struct InvalidRedisUrl(String);

/// One shared connection, replaced when it breaks.
#[derive(Default)]
struct Lane {
    slot: Mutex<Slot>,
    /// The latest generation whose connection has failed. Beside the lock, so that a call that is out of time need not
    /// wait for another one that connects.
    broken: AtomicU64,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Counts the connections, so that of many calls that fail together only the first throws theirs away.
    generation: u64,
}

impl Lane {
    async fn connection(&self, pool: &Pool) -> Result<(MultiplexedConnection, u64), CallError> {
        let mut slot = self.slot.lock().await;
        if slot.generation <= self.broken.load(Ordering::Relaxed)
            && let Some(connection) = slot.connection.take()
        {
            drop(Connection::take(connection));
        }
        if slot.connection.is_none() {
            let connection = pool.get().await.map_err(|error| CallError::Failed(error.into()))?;
            slot.generation += 1;
            slot.connection = Some(connection);
        }
        let connection = slot.connection.as_ref().map(|connection| (**connection).clone());
        let connection = connection.ok_or_else(|| CallError::Failed(Error::unexpected("no connection")))?;
        Ok((connection, slot.generation))
    }

    /// The next call over this lane brings a new connection.
    fn discard(&self, generation: u64) {
        self.broken.fetch_max(generation, Ordering::Relaxed);
    }
}
