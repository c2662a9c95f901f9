//! The kinds of topologies: one server, the primary that Sentinels name, or the primaries of a cluster.

use crate::redis::{cluster::Cluster, endpoint::Endpoint, sentinel::Sentinels};

/// Where the servers are, as `redis.url` says.
#[derive(Clone)]
pub(crate) enum TopologySource {
    /// One server of Redis.
    Server(Endpoint),
    /// The primary that Sentinels name.
    Sentinels(Sentinels),
    /// The primaries of a cluster.
    Cluster(Cluster),
}

impl TopologySource {
    /// Returns the name of this kind of topology, for logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            Self::Sentinels(_) => "sentinel",
            Self::Cluster(_) => "cluster",
        }
    }
}
