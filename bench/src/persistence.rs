//! Starts the Redis of a measurement with a kind of persistence: none, or an append-only file.

use drover_tests::RedisServer;

/// How a Redis keeps its data on disk.
#[derive(Clone, Copy)]
pub(crate) enum Persistence {
    /// Redis writes nothing to disk.
    Off,
    /// Redis has an append-only file, with `appendfsync everysec`.
    EverySecond,
    /// Redis has an append-only file, with `appendfsync always`.
    Always,
}

impl Persistence {
    pub(crate) fn start_redis(self) -> RedisServer {
        match self {
            Self::Off => RedisServer::start(),
            Self::EverySecond => RedisServer::start_fsync_everysec(),
            Self::Always => RedisServer::start_durable(),
        }
    }

    /// The name under which a figure is reported if it was measured with this persistence.
    pub(crate) fn figure_name(self, figure: &str) -> String {
        match self {
            Self::Off => figure.into(),
            Self::EverySecond => format!("everysec, {figure}"),
            Self::Always => format!("always, {figure}"),
        }
    }
}
