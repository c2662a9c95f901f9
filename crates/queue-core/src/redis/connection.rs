//! The connections of one process to Redis, and the calls over them: how long a call may take, when it may be sent once
//! more, and what its failure means.

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

/// The number of connections that a process shares for its calls: one may carry a large reply while the other stays usable.
const SHARED: usize = 2;
/// The maximum number of connections, each newer than the one before, that a call tries while it was not written to any.
const CONNECTIONS_PER_CALL: usize = 3;

/// The connections of one process to Redis.
///
/// Calls of many tasks travel over a few shared connections at once, without waiting for each other. A connection comes
/// from a deadpool pool, and goes when a call over it fails or does not end in time; the next call brings a new one. A call
/// that meets a connection which Redis has closed is sent over a new one, if no byte of it was written; a call that was
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
    connections: [SharedConnection; SHARED],
    next_connection: AtomicUsize,
    /// For calls that wait for replicas: whatever comes after them over the same connection waits too.
    confirmed: SharedConnection,
    time_limit: Duration,
    calls: Arc<Calls>,
}

impl Redis {
    /// The time limit of a call, unless another one is given: 1.5 s.
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

    /// As this one, with connections of its own: they belong to the tasks of the runtime that calls first. Its
    /// calls are counted with the rest.
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
        let invalid = |_: redis::RedisError| InvalidRedisUrl;
        let info =
            info.into_connection_info().map_err(invalid)?.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let client = Client::open(info.clone()).map_err(invalid)?;
        let pool = Pool::builder(Connector::new(info)).max_size(SHARED + 1).build().map_err(|_| InvalidRedisUrl)?;
        let connections = std::array::from_fn(|_| SharedConnection::default());
        let (next_connection, confirmed) = (AtomicUsize::new(0), SharedConnection::default());
        let shared = Shared { client, pool, connections, next_connection, confirmed, time_limit, calls };
        Ok(Self { shared: Arc::new(shared), replicas: 0 })
    }

    /// Sets the number of replicas that must have a message before it counts as stored (Redis `WAIT`). Defaults to none.
    #[must_use]
    pub fn confirmed_by(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// Lets the scripts of this process take the time from the key `drover:{<queue>}:clock`, in µs since 1970. For tests; to be
    /// called before anything else is.
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

    /// Asks whether Redis answers and takes writes: a replica would answer to a PING as well. One whose memory is full is
    /// there, for it can be drained.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it does not.
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
        self.over(self.next_connection(), Sending { command, script: None, wait: None }).await.map(|(answer, _)| answer)
    }

    /// Sends the call of a script. One that stores messages waits until as many replicas have them as are set.
    ///
    /// It errs as not available when they don't have them in time, or when the connection is lost before they have confirmed it;
    /// the primary has them then, and the replicas may get them later.
    pub(crate) async fn call_script(&self, script: &Script, command: &Cmd) -> Result<Value, CallError> {
        let in_script = |error| in_script(script, error);
        if self.replicas == 0 || !script.stores_messages() {
            let sending = Sending { command, script: Some(script), wait: None };
            return self.over(self.next_connection(), sending).await.map(|(answer, _)| answer).map_err(in_script);
        }
        let mut wait = redis::cmd("WAIT");
        // Half of the time, so that there is an answer before the call is out of it.
        wait.arg(self.replicas).arg(self.shared.time_limit.as_millis() / 2);
        let sending = Sending { command, script: Some(script), wait: Some(&wait) };
        let (answer, confirmed_by) = self.over(&self.shared.confirmed, sending).await.map_err(in_script)?;
        if confirmed_by < self.replicas {
            let text = format!("{confirmed_by} of {} replicas have confirmed in time", self.replicas);
            let error = CallError::Failed(Error::Unavailable(text));
            self.shared.calls.note_failure(script.name, &error);
            return Err(error);
        }
        Ok(answer)
    }

    fn next_connection(&self) -> &SharedConnection {
        &self.shared.connections[self.shared.next_connection.fetch_add(1, Ordering::Relaxed) % SHARED]
    }

    async fn over(&self, shared: &SharedConnection, sending: Sending<'_>) -> Result<(Value, u32), CallError> {
        let start = Instant::now();
        let mut generation = None;
        let within_time = timeout(self.shared.time_limit, async {
            let mut connections = 1;
            loop {
                let (mut connection, of) = shared.connection(&self.shared.pool, &self.shared.client).await?;
                generation = Some(of);
                match sending.over(&mut connection).await {
                    // Each comes at once, but its connection was there a moment ago: Redis is up.
                    Err(Unanswered::NeverWritten(_)) if connections < CONNECTIONS_PER_CALL => {
                        shared.discard(of);
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
    /// The command after it, over the same connection, which waits for replicas.
    wait: Option<&'c Cmd>,
}

impl Sending<'_> {
    /// The name under which it is counted.
    fn name(&self) -> &'static str {
        self.script.map_or(calls::COMMAND, |script| script.name)
    }

    /// The answer, and how many replicas have confirmed it: none if nothing waits for them.
    async fn over(&self, connection: &mut Connection) -> Result<(Value, u32), Unanswered> {
        let answer = match (connection.query(self.command).await, self.script) {
            // With the whole script, so that Redis can't forget it in between.
            (Err(Unanswered::Failed(error)), Some(script)) if error.code() == Some("NOSCRIPT") => {
                connection.query(&script.whole(self.command)).await?
            }
            (answer, _) => answer?,
        };
        let confirmed_by = match self.wait {
            // The script is done: over another connection it would be done twice.
            Some(wait) => connection.query(wait).await.map_err(Unanswered::for_good)?,
            None => 0,
        };
        Ok((answer, confirmed_by))
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

/// A text is not the URL of a Redis.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not the URL of a Redis; expected redis://host:port, redis://user:password@host:port/db or unix:/path")]
pub struct InvalidRedisUrl;
