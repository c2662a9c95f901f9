//! One server of the topology: its connections, and the calls over these connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{Cmd, Value};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    redis::{
        call_error::CallError,
        calls::ServerGauge,
        endpoint::Endpoint,
        scripts::Script,
        send_error::SendError,
        shared_connection::{Connection, Connector, Pool, QueryError, SendsAsking, SharedConnection},
    },
};

/// The number of shared connections to one server: two, so that one of them stays usable while the other carries a large reply.
const SHARED_CONNECTIONS: usize = 2;
/// The maximum number of connections that a call tries, one after the other, as long as no byte of the call was written.
const MAX_CONNECTIONS_TRIED_PER_CALL: usize = 3;

/// One server, and the connections to this server.
///
/// Many tasks send calls over a few shared connections at once, without waiting for each other. A connection comes from a
/// deadpool pool, and is discarded when a call over it fails or exceeds its time limit; the next call opens a new connection. If
/// Redis has closed a connection, a call is sent over a new connection, as long as no byte of the call was written.
pub(crate) struct Node {
    pool: Pool,
    connections: [SharedConnection; SHARED_CONNECTIONS],
    next_connection: AtomicUsize,
    /// The separate connection for calls that wait for replicas: over the same connection, later calls would wait too.
    confirmed: SharedConnection,
    /// The number of calls to this server that have begun. By `calls_begun` and `calls_ended`, the watcher of the topology
    /// recognizes a server that hangs.
    calls_begun: AtomicU64,
    /// The number of calls to this server that have ended.
    calls_ended: AtomicU64,
    /// The metric that is 1 if the last call was answered, 0 if not.
    is_up: ServerGauge,
    /// The token that is cancelled when the server is no longer a primary.
    retired: CancellationToken,
}

impl Node {
    pub(crate) fn new(endpoint: Endpoint, is_up: ServerGauge) -> Arc<Self> {
        let connection_pool = Pool::builder(Connector(endpoint)).max_size(SHARED_CONNECTIONS + 1).build();
        Arc::new(Self {
            pool: connection_pool.expect("a pool without time-outs needs nothing that could be missing"),
            connections: std::array::from_fn(|_| SharedConnection::default()),
            next_connection: AtomicUsize::new(0),
            confirmed: SharedConnection::default(),
            calls_begun: AtomicU64::new(0),
            calls_ended: AtomicU64::new(0),
            is_up,
            retired: CancellationToken::new(),
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.pool.manager().0
    }

    /// Returns the token that is cancelled when the server is no longer a primary.
    pub(crate) fn retire_token(&self) -> &CancellationToken {
        &self.retired
    }

    /// Ends all calls to the server without their replies, because the server is no longer a primary. Whether the server executed
    /// these calls is unknown.
    pub(crate) fn retire(&self) {
        self.retired.cancel();
        for connection in self.connections.iter().chain([&self.confirmed]) {
            connection.abort();
        }
    }

    /// Returns how many calls to this server have begun, and how many of these calls have ended.
    pub(crate) fn call_counts(&self) -> (u64, u64) {
        // The counter of ended calls is read before the counter of begun calls, so that never more calls have ended than have
        // begun.
        let ended_calls = self.calls_ended.load(Ordering::Relaxed);
        (self.calls_begun.load(Ordering::Relaxed), ended_calls)
    }

    /// Whether the last call was not answered.
    pub(crate) fn is_not_answering(&self) -> bool {
        // Before the first call ends, it is unknown whether the server answers.
        self.calls_ended.load(Ordering::Relaxed) > 0 && self.is_up.get() == 0
    }

    /// Sends the commands of one call until `deadline`. Returns the reply, and the number of replicas that have confirmed the
    /// writes, 0 without a WAIT.
    pub(crate) async fn send(
        &self,
        commands: CallCommands<'_>,
        deadline: Instant,
        time_limit: Duration,
    ) -> Result<(Value, u32), SendError> {
        self.calls_begun.fetch_add(1, Ordering::Relaxed);
        let count_end = CountsCallEndOnDrop(&self.calls_ended);
        let shared_connections = match commands.wait {
            Some(_) => &self.confirmed,
            None => &self.connections[self.next_connection.fetch_add(1, Ordering::Relaxed) % SHARED_CONNECTIONS],
        };
        let mut generation = None;
        let within_time = timeout_at(deadline, async {
            let mut connections = 1;
            loop {
                let (mut connection, its_generation) =
                    shared_connections.connection(&self.pool, &self.retired).await.map_err(SendError::unreachable)?;
                generation = Some(its_generation);
                match commands.send(&mut connection).await {
                    // The connection was open a moment ago, so Redis is probably up, and a new connection is worth a try.
                    Err(QueryError::NeverWritten(_)) if connections < MAX_CONNECTIONS_TRIED_PER_CALL => {
                        shared_connections.discard(its_generation);
                        connections += 1;
                    }
                    answer => return answer.map_err(SendError::from),
                }
            }
        });
        let answer = within_time.await.unwrap_or_else(|_| {
            let error_text = match (generation, &self.endpoint().tls) {
                (Some(_), _) => format!("no answer within {time_limit:?}"),
                (None, None) => format!("no connection within {time_limit:?}"),
                // A server without TLS takes the handshake for the start of a command, and waits for the rest.
                (None, Some(_)) => {
                    format!(
                        "no connection within {time_limit:?}; if this port is not for TLS, write redis:// in redis.url"
                    )
                }
            };
            Err(SendError::Failed(CallError::Failed(Error::Unavailable(error_text))))
        });
        if let (Err(error), Some(generation)) = (&answer, generation)
            && error.breaks_connection()
        {
            shared_connections.discard(generation);
        }
        self.is_up.set(answer.as_ref().map_or_else(|error| i64::from(error.is_answer()), |_| 1));
        drop(count_end);
        answer
    }
}

/// Adds 1 to a counter when it is dropped, so that a call whose future is dropped counts as ended too.
struct CountsCallEndOnDrop<'c>(&'c AtomicU64);

impl Drop for CountsCallEndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The commands of one call.
#[derive(Clone, Copy)]
pub(crate) struct CallCommands<'c> {
    pub(crate) command: &'c Cmd,
    /// The script that the command calls.
    pub(crate) script: Option<&'c Script>,
    /// The command that is sent after the call over the same connection, and waits for replicas.
    pub(crate) wait: Option<&'c Cmd>,
    /// Whether the server serves the call although the slot still belongs to another server.
    pub(crate) asking: SendsAsking,
}

impl CallCommands<'_> {
    async fn send(&self, connection: &mut Connection) -> Result<(Value, u32), QueryError> {
        let answer = match (connection.query(self.command, self.asking).await, self.script) {
            // EVAL sends and runs the script in one step, so that Redis can't forget the script in between.
            (Err(QueryError::Failed(error)), Some(script)) if error.code() == Some("NOSCRIPT") => {
                connection.query(&script.eval_of(self.command), self.asking).await?
            }
            (answer, _) => answer?,
        };
        let confirmed_replicas = match self.wait {
            // The script has run, so the call must not be sent again.
            Some(wait) => connection.query(wait, SendsAsking::No).await.map_err(QueryError::into_wait_error)?,
            None => 0,
        };
        Ok((answer, confirmed_replicas))
    }
}
