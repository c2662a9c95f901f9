//! One connection to Redis that many calls share. The connection is replaced when a call over it fails, and before a call when
//! Redis has closed the connection.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult};
use deadpool_redis::redis::{self, Cmd, FromRedisValue, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{sync::Mutex, task::AbortHandle};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    error::{Error, Result},
    redis::{
        closed_by_server,
        endpoint::{Endpoint, OpenConnection},
        socket::Traffic,
    },
};

/// The pool from which a server's connections come.
pub(crate) type Pool = managed::Pool<Connector>;

/// Opens the connections of a pool.
pub(crate) struct Connector(pub(crate) Endpoint);

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = RedisError;

    /// Opens a connection. The caller limits the time for opening the connection.
    async fn create(&self) -> RedisResult<Connection> {
        let OpenConnection { multiplexed, traffic, driver } = self.0.open().await?;
        Ok(Connection { multiplexed, traffic, driver: Arc::new(driver) })
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<RedisError> {
        if connection.traffic.is_closed() { Err(RecycleError::message("closed by Redis")) } else { Ok(()) }
    }
}

/// A connection that may be cloned; all clones share one socket.
#[derive(Clone)]
pub(crate) struct Connection {
    multiplexed: MultiplexedConnection,
    traffic: Arc<Traffic>,
    /// The task that drives the socket. The task and the socket end with the last clone of the connection.
    driver: Arc<AbortOnDropHandle<()>>,
}

impl Connection {
    /// Sends a command, and waits for its reply.
    pub(crate) async fn query<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
        asking: SendsAsking,
    ) -> Result<T, QueryError> {
        let written_before = self.traffic.written_bytes();
        let reply = match asking {
            SendsAsking::No => command.query_async(&mut self.multiplexed).await,
            // ASKING and the command are sent together, because ASKING holds only for the next command.
            SendsAsking::Yes => {
                let mut asking_pipeline = redis::pipe();
                asking_pipeline.cmd("ASKING").ignore().add_command(command.clone());
                asking_pipeline.query_async(&mut self.multiplexed).await.map(|(reply,): (T,)| reply)
            }
        };
        reply.map_err(|error| {
            // A failed command is not written later. If the socket has written nothing since the call began, it has written no byte of
            // the command.
            if self.traffic.written_bytes() == written_before {
                QueryError::NeverWritten(error)
            } else {
                QueryError::Failed(error)
            }
        })
    }
}

/// Whether a command follows a redirection by ASK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendsAsking {
    Yes,
    No,
}

/// Why a command has no usable reply.
pub(crate) enum QueryError {
    /// Redis has received no byte of the command, so the command may be sent again.
    NeverWritten(RedisError),
    /// Redis answered with an error, or its reply was lost and the command may have run. The command may have started, unless the
    /// code of the error says that it did not start, as MOVED does.
    Failed(RedisError),
    /// Redis executed the call, but the WAIT that was sent after the call failed.
    Done(RedisError),
}

impl QueryError {
    /// Converts the error of a WAIT that was sent after a call that Redis executed.
    pub(crate) fn into_wait_error(self) -> Self {
        match self {
            Self::NeverWritten(error) | Self::Failed(error) | Self::Done(error) => Self::Done(error),
        }
    }
}

/// One shared connection, which is replaced when it breaks.
#[derive(Default)]
pub(crate) struct SharedConnection {
    slot: Mutex<ConnectionSlot>,
    /// The number (`generation`) of the latest connection that has failed. `broken` is outside the lock of `slot`, so that a call
    /// whose time is over need not wait for another call that connects.
    broken: AtomicU64,
    /// The handle with which the task that drives the open connection can be ended.
    driver: parking_lot::Mutex<Option<AbortHandle>>,
}

/// The open connection, if any, and its number.
#[derive(Default)]
struct ConnectionSlot {
    connection: Option<Object<Connector>>,
    /// The number of the connection, so that of many calls that fail together only the first call discards the connection.
    generation: u64,
}

async fn connect_unless_retired(pool: &Pool, retired: &CancellationToken) -> Result<Object<Connector>> {
    let connecting = async {
        match pool.get().await {
            Ok(connection) => Ok(connection),
            Err(PoolError::Backend(error)) => {
                Err(closed_by_server::explain_connect_error(error, &pool.manager().0).await)
            }
            Err(error) => Err(error.into()),
        }
    };
    tokio::select! {
        connected = connecting => connected,
        // A server that hangs accepts connections, and never answers.
        () = retired.cancelled() => Err(no_longer_primary()),
    }
}

fn no_longer_primary() -> Error {
    Error::Unavailable("the server is no longer a primary".into())
}

impl SharedConnection {
    /// Returns the open connection, or a new connection, and its generation. An attempt to connect ends when the server is `retired`.
    pub(crate) async fn connection(&self, pool: &Pool, retired: &CancellationToken) -> Result<(Connection, u64)> {
        let mut slot = self.slot.lock().await;
        let is_broken = slot.generation <= self.broken.load(Ordering::Relaxed);
        if let Some(connection) = slot.connection.take_if(|connection| is_broken || connection.traffic.is_closed()) {
            drop(Object::take(connection));
        }
        if let Some(connection) = &slot.connection {
            return Ok((Connection::clone(connection), slot.generation));
        }
        // A call rarely connects, so the future of `connect_unless_retired` is boxed, which keeps the future of each call small.
        let connection = Box::pin(connect_unless_retired(pool, retired)).await?;
        let shared_connection = Connection::clone(&connection);
        slot.generation += 1;
        *self.driver.lock() = Some(shared_connection.driver.abort_handle());
        slot.connection = Some(connection);
        // If `abort` was called before `self.driver` was set, `abort` did not end the task of this connection. As each caller of
        // `abort` cancels `retired` first, this check of `retired` calls `abort` again.
        if retired.is_cancelled() {
            self.abort();
            return Err(no_longer_primary());
        }
        Ok((shared_connection, slot.generation))
    }

    /// Marks the connection of this generation as broken; the next call opens a new connection.
    pub(crate) fn discard(&self, generation: u64) {
        self.broken.fetch_max(generation, Ordering::Relaxed);
    }

    /// Closes the connection, so that all calls over the connection fail at once.
    pub(crate) fn abort(&self) {
        if let Some(driver) = self.driver.lock().take() {
            driver.abort();
        }
    }
}
