//! The connections of one process to Redis, and the calls over them: the time limit of a call, when a call may be sent again,
//! and which error a failure becomes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{self, Client, Cmd, IntoConnectionInfo, Value, io::tcp::TcpSettings};
use tokio::time::{Instant, timeout};

use crate::{
    error::{Error, Result},
    redis::{
        call_error::CallError,
        calls::{self, Calls},
        scripts::{self, Script},
        shared_connection::{Connection, Connector, Pool, SharedConnection, Unanswered},
    },
};

/// The number of shared connections of a process: while one carries a large reply, the other stays usable.
const SHARED_CONNECTIONS: usize = 2;
/// The maximum number of connections that a call tries, one after the other, as long as no byte of the call was written.
const CONNECTIONS_PER_CALL: usize = 3;

/// The connections of one process to Redis.
///
/// Calls of many tasks travel over a few shared connections at once, without waiting for each other. A connection comes from a
/// deadpool pool, and is discarded when a call over it fails or exceeds its time limit; the next call opens a new one. If Redis
/// has closed a connection, a call over it is sent over a new one, as long as no byte of the call was written; a call that was
/// written is never sent again.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
    /// The number of replicas that must have a message before it counts as stored.
    replicas: u32,
}

struct Shared {
    client: Client,
    pool: Pool,
    connections: [SharedConnection; SHARED_CONNECTIONS],
    next_connection: AtomicUsize,
    /// The connection for calls that wait for replicas. It is a separate one, because later calls over it wait too.
    confirmed: SharedConnection,
    time_limit: Duration,
    calls: Arc<Calls>,
}

impl Redis {
    /// The default time limit of a call: 1.5 s.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_millis(1_500);

    /// Prepares connections to `url` (`redis://[user:password@]host:port[/db]`, or `unix:` and a path). No connection is opened
    /// yet, so Redis may start later than this process.
    ///
    /// Every call, including the time to connect, ends after `time_limit`.
    ///
    /// # Errors
    ///
    /// When `url` is not a Redis URL; the error text does not contain the URL, because the URL may have a password.
    pub fn new(url: &str, time_limit: Duration) -> Result<Self, InvalidRedisUrl> {
        Self::with(url, time_limit, Arc::default())
    }

    /// A handle with the same settings and its own connections, which belong to the runtime of its first call. Its calls are
    /// counted together with the calls of this handle.
    ///
    /// # Errors
    ///
    /// The same as [`new`](Self::new).
    pub fn with_own_connections(&self) -> Result<Self, InvalidRedisUrl> {
        let info = self.shared.client.get_connection_info().clone();
        let redis = Self::with(info, self.shared.time_limit, Arc::clone(&self.shared.calls))?;
        Ok(Self { replicas: self.replicas, ..redis })
    }

    fn with(info: impl IntoConnectionInfo, time_limit: Duration, calls: Arc<Calls>) -> Result<Self, InvalidRedisUrl> {
        let invalid = |_: redis::RedisError| InvalidRedisUrl;
        let info =
            info.into_connection_info().map_err(invalid)?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info.clone()).map_err(invalid)?;
        let pool = Pool::builder(Connector::new(info))
            .max_size(SHARED_CONNECTIONS + 1)
            .build()
            .map_err(|_| InvalidRedisUrl)?;
        let connections = std::array::from_fn(|_| SharedConnection::default());
        let (next_connection, confirmed) = (AtomicUsize::new(0), SharedConnection::default());
        let shared = Shared { client, pool, connections, next_connection, confirmed, time_limit, calls };
        Ok(Self { shared: Arc::new(shared), replicas: 0 })
    }

    /// Sets the number of replicas that must have a message before it counts as stored (Redis `WAIT`). Defaults to none.
    #[must_use]
    pub fn require_replicas(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// Makes the scripts of this process read the time from the key `drover:{<queue>}:clock`, in µs since 1970. For tests; call
    /// it before any other function.
    #[doc(hidden)]
    pub fn inject_clock() {
        scripts::inject_clock();
    }

    /// The time limit of a call.
    pub fn time_limit(&self) -> Duration {
        self.shared.time_limit
    }

    /// The durations of this process's calls, and the number of failed ones.
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// Checks whether Redis answers and accepts writes; a PING would succeed on a replica too. A Redis whose memory is full
    /// passes the check, because messages can still be leased and settled.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when Redis does not answer or accepts no writes.
    pub async fn ping(&self) -> Result<()> {
        let mut ping = redis::cmd("EVAL");
        ping.arg("#!lua flags=allow-oom\nreturn 1").arg(0);
        self.call(&ping).await.map(drop).map_err(Error::from)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Sends one command.
    pub(crate) async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        self.send_over(self.next_connection(), Sending { command, script: None, wait: None })
            .await
            .map(|(answer, _)| answer)
    }

    /// Sends the call of a script. A script that stores messages waits until the required number of replicas has them.
    ///
    /// The call fails as `Unavailable` when too few replicas confirm in time, or when the connection is lost before they
    /// confirm. Then the primary has the messages, and the replicas may receive them later.
    pub(crate) async fn call_script(&self, script: &Script, command: &Cmd) -> Result<Value, CallError> {
        let in_script = |error| in_script(script, error);
        if self.replicas == 0 || !script.stores_messages() {
            let sending = Sending { command, script: Some(script), wait: None };
            return self.send_over(self.next_connection(), sending).await.map(|(answer, _)| answer).map_err(in_script);
        }
        let mut wait = redis::cmd("WAIT");
        // Half of the time limit, so that the reply of WAIT arrives before the limit of the call.
        wait.arg(self.replicas).arg(self.shared.time_limit.as_millis() / 2);
        let sending = Sending { command, script: Some(script), wait: Some(&wait) };
        let (answer, confirmations) = self.send_over(&self.shared.confirmed, sending).await.map_err(in_script)?;
        if confirmations < self.replicas {
            let text = format!("{confirmations} of {} replicas have confirmed in time", self.replicas);
            let error = CallError::Failed(Error::Unavailable(text));
            self.shared.calls.note_failure(script.name, &error);
            return Err(error);
        }
        Ok(answer)
    }

    fn next_connection(&self) -> &SharedConnection {
        &self.shared.connections[self.shared.next_connection.fetch_add(1, Ordering::Relaxed) % SHARED_CONNECTIONS]
    }

    async fn send_over(&self, shared: &SharedConnection, sending: Sending<'_>) -> Result<(Value, u32), CallError> {
        let start = Instant::now();
        let mut generation = None;
        let within_time = timeout(self.shared.time_limit, async {
            let mut connections = 1;
            loop {
                let (mut connection, its_generation) =
                    shared.connection(&self.shared.pool, &self.shared.client).await?;
                generation = Some(its_generation);
                match sending.send(&mut connection).await {
                    // The connection was open a moment ago, so Redis is probably up, and a new connection is worth a try.
                    Err(Unanswered::NeverWritten(_)) if connections < CONNECTIONS_PER_CALL => {
                        shared.discard(its_generation);
                        connections += 1;
                    }
                    answer => return answer.map_err(|unanswered| CallError::from(unanswered.into_error())),
                }
            }
        });
        let answer = within_time.await.unwrap_or_else(|_| {
            let waited = self.shared.time_limit;
            Err(CallError::Failed(Error::Unavailable(format!("no answer within {waited:?}"))))
        });
        if let (Err(CallError::Failed(Error::Unavailable(_))), Some(generation)) = (&answer, generation) {
            shared.discard(generation);
        }
        self.shared.calls.note(sending.name(), start.elapsed(), answer.as_ref().err());
        answer
    }
}

/// The commands of one call.
struct Sending<'c> {
    command: &'c Cmd,
    /// The script that the command calls.
    script: Option<&'c Script>,
    /// The command that follows over the same connection, and waits for replicas.
    wait: Option<&'c Cmd>,
}

impl Sending<'_> {
    /// The name under which the call is counted.
    fn name(&self) -> &'static str {
        self.script.map_or(calls::COMMAND, |script| script.name)
    }

    /// Sends the commands. Returns the reply, and the number of replicas that have confirmed the writes; 0 without a WAIT.
    async fn send(&self, connection: &mut Connection) -> Result<(Value, u32), Unanswered> {
        let answer = match (connection.query(self.command).await, self.script) {
            // EVAL sends and runs the script in one step, so that Redis can't forget it in between.
            (Err(Unanswered::Failed(error)), Some(script)) if error.code() == Some("NOSCRIPT") => {
                connection.query(&script.eval_of(self.command)).await?
            }
            (answer, _) => answer?,
        };
        let confirmations = match self.wait {
            // The script has run, so the call must not be sent again over another connection.
            Some(wait) => connection.query(wait).await.map_err(Unanswered::into_failed)?,
            None => 0,
        };
        Ok((answer, confirmations))
    }
}

/// Adds the script's name to an unexpected error.
fn in_script(script: &Script, error: CallError) -> CallError {
    match error {
        CallError::Failed(Error::Unexpected(text)) => {
            CallError::Failed(Error::Unexpected(format!("{}.lua: {text}", script.name)))
        }
        other => other,
    }
}

/// The error of a text that is not the URL of a Redis.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not the URL of a Redis; expected redis://host:port, redis://user:password@host:port/db or unix:/path")]
pub struct InvalidRedisUrl;
