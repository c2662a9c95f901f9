//! One connection to Redis that many calls share. It is replaced when a call over it fails, and before a call when Redis
//! has closed it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use deadpool::managed::{self, Metrics, Object, PoolError, RecycleError, RecycleResult};
use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, FromRedisValue, RedisError, RedisResult,
    aio::MultiplexedConnection,
};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    error::Result,
    redis::{
        call_error::CallError,
        counted_socket::{CountedSocket, Traffic},
        protected_mode,
    },
};

pub(crate) type Pool = managed::Pool<Connector>;

/// Opens the connections of a pool.
pub(crate) struct Connector {
    info: ConnectionInfo,
}

impl Connector {
    pub(crate) fn new(info: ConnectionInfo) -> Self {
        Self { info }
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = RedisError;

    /// The caller limits how long this takes.
    async fn create(&self) -> RedisResult<Connection> {
        let socket = CountedSocket::connect(&self.info).await?;
        let traffic = socket.traffic();
        // `Redis` limits the total time of a call, so the client needs no limit for each reply.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let (multiplexed, driver) =
            MultiplexedConnection::new_with_config(self.info.redis_settings(), socket, config).await?;
        let driver = tokio::spawn({
            let traffic = Arc::clone(&traffic);
            async move {
                driver.await;
                traffic.close();
            }
        });
        Ok(Connection { multiplexed, traffic, _driver: Arc::new(AbortOnDropHandle::new(driver)) })
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<RedisError> {
        if connection.traffic.is_closed() { Err(RecycleError::message("closed by Redis")) } else { Ok(()) }
    }
}

/// A connection that may be cloned: its clones share one socket.
#[derive(Clone)]
pub(crate) struct Connection {
    multiplexed: MultiplexedConnection,
    traffic: Arc<Traffic>,
    /// The task that drives the socket; both end with the last clone.
    _driver: Arc<AbortOnDropHandle<()>>,
}

impl Connection {
    /// Sends a command, and waits for its reply.
    pub(crate) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, Unanswered> {
        let written_before = self.traffic.written();
        command.query_async(&mut self.multiplexed).await.map_err(|error| {
            // A failed command is not written later. If nothing was written meanwhile, this command was not written either.
            if self.traffic.written() == written_before {
                Unanswered::NeverWritten(error)
            } else {
                Unanswered::Failed(error)
            }
        })
    }
}

/// Why a command has no usable reply.
pub(crate) enum Unanswered {
    /// Redis has received no byte of the command: it may be sent again.
    NeverWritten(RedisError),
    /// Redis answered with an error, or its reply was lost and the command may have run: it must not be sent again.
    Failed(RedisError),
}

impl Unanswered {
    /// Marks the command as one that must not be sent again.
    pub(crate) fn into_failed(self) -> Self {
        Self::Failed(self.into_error())
    }

    pub(crate) fn into_error(self) -> RedisError {
        match self {
            Self::NeverWritten(error) | Self::Failed(error) => error,
        }
    }
}

/// One shared connection, replaced when it breaks.
#[derive(Default)]
pub(crate) struct SharedConnection {
    slot: Mutex<Slot>,
    /// The latest generation whose connection has failed. It is outside the lock, so that a call whose time is over need not wait
    /// for another call that connects.
    broken: AtomicU64,
}

#[derive(Default)]
struct Slot {
    connection: Option<Object<Connector>>,
    /// The number of this connection, so that of many calls that fail together only the first discards the connection.
    generation: u64,
}

async fn connect(pool: &Pool, client: &Client) -> Result<Object<Connector>, CallError> {
    match pool.get().await {
        Ok(connection) => Ok(connection),
        Err(PoolError::Backend(error)) => Err(CallError::Failed(protected_mode::explain(error, client).await)),
        Err(error) => Err(CallError::Failed(error.into())),
    }
}

impl SharedConnection {
    pub(crate) async fn connection(&self, pool: &Pool, client: &Client) -> Result<(Connection, u64), CallError> {
        let mut slot = self.slot.lock().await;
        let is_broken = slot.generation <= self.broken.load(Ordering::Relaxed);
        if let Some(connection) = slot.connection.take_if(|connection| is_broken || connection.traffic.is_closed()) {
            drop(Object::take(connection));
        }
        if let Some(connection) = &slot.connection {
            return Ok((Connection::clone(connection), slot.generation));
        }
        // Connecting is rare, so its future is boxed, which keeps the future of each call small.
        let connection = Box::pin(connect(pool, client)).await?;
        let shared = Connection::clone(&connection);
        slot.generation += 1;
        slot.connection = Some(connection);
        Ok((shared, slot.generation))
    }

    /// Marks the connection of this generation as broken; the next call opens a new one.
    pub(crate) fn discard(&self, generation: u64) {
        self.broken.fetch_max(generation, Ordering::Relaxed);
    }
}
