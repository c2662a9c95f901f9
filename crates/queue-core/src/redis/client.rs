//! The handle of one process to Redis. A call is sent again only in this module, and only if the call provably did not start.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{self, Cmd, Value};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    error::{Error, Result},
    redis::{
        call_error::CallError,
        calls::{self, Calls},
        keys::Slot,
        node::{CallCommands, Node},
        scripts::{self, Script},
        send_error::{NotStartedReason, SendError},
        shared_connection::SendsAsking,
        topology::{Topology, TopologySource},
    },
};

/// The pause before a call that did not start is sent again.
const RESEND_PAUSE: Duration = Duration::from_millis(50);
/// The maximum number of redirections that a call follows without a pause.
const MAX_REDIRECTIONS: u32 = 3;

/// The connections of one process to Redis: to one server, to the primary that Sentinels name, or to the primaries of a cluster.
///
/// A call that was written is never sent again, unless the server answered that the call did not start.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<RedisState>,
    /// The number of replicas that must have a message before the message counts as stored.
    replicas: u32,
}

struct RedisState {
    topology: Topology,
    time_limit: Duration,
    calls: Arc<Calls>,
}

impl Redis {
    /// The default time limit of a call: 1.5 s.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_millis(1_500);

    /// Returns a handle with the same settings and with its own connections, which belong to the runtime of the new handle's first
    /// call. The new handle and the existing handle count their calls in the same metrics.
    #[must_use]
    pub fn with_own_connections(&self) -> Self {
        let RedisState { topology, time_limit, calls } = &*self.shared;
        let redis = Self::to(topology.source().clone(), *time_limit, Arc::clone(calls));
        Self { replicas: self.replicas, ..redis }
    }

    /// Prepares connections to the servers of a topology.
    pub(crate) fn to(source: TopologySource, time_limit: Duration, calls: Arc<Calls>) -> Self {
        let topology = Topology::new(source, Arc::clone(&calls));
        Self { shared: Arc::new(RedisState { topology, time_limit, calls }), replicas: 0 }
    }

    /// Sets the number of replicas that must have a message before the message counts as stored (Redis `WAIT`); defaults to 0.
    #[must_use]
    pub fn require_replicas(self, replicas: u32) -> Self {
        Self { replicas, ..self }
    }

    /// Makes the scripts of this process read the time from the key `drover:{<queue>}:clock`, in µs since 1970. Only tests call
    /// `inject_clock`, before any other function.
    #[doc(hidden)]
    pub fn inject_clock() {
        scripts::inject_clock();
    }

    /// The time limit of a call.
    pub fn time_limit(&self) -> Duration {
        self.shared.time_limit
    }

    /// Returns the metrics of this process's calls: their durations, and the number of failed calls.
    pub fn calls(&self) -> &Calls {
        &self.shared.calls
    }

    /// Checks whether the servers answer and accept writes; a PING would succeed on a replica too. `ping` accepts a Redis whose
    /// memory is full, because messages can still be leased and settled. If some servers of a cluster answer and accept writes, the
    /// result of `ping` has an error for each server that does not.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when no server answers and accepts writes.
    pub async fn ping(&self) -> Result<Vec<Error>> {
        let mut ping = redis::cmd("EVAL");
        ping.arg("#!lua flags=allow-oom\nreturn 1").arg(0);
        self.call_each(&ping).await.map(|(_, errors)| errors)
    }

    /// The kind of topology that `redis.url` names: `server`, `sentinel` or `cluster`.
    pub fn topology_name(&self) -> &'static str {
        self.shared.topology.source().name()
    }

    pub(crate) fn topology(&self) -> &Topology {
        &self.shared.topology
    }

    /// Sends one command to the server that has this slot.
    pub(crate) async fn call(&self, slot: Slot, command: &Cmd) -> Result<Value, CallError> {
        let commands = CallCommands { command, script: None, wait: None, asking: SendsAsking::No };
        self.send(slot, commands).await.map(|(answer, _)| answer)
    }

    /// Sends one command to each server. Returns the replies, and the errors of the servers that did not answer; if no server
    /// answered, returns one of the errors.
    pub(crate) async fn call_each(&self, command: &Cmd) -> Result<(Vec<Value>, Vec<Error>)> {
        let nodes = self.shared.topology.nodes().await?;
        let (mut replies, mut errors) = (Vec::new(), Vec::new());
        for answer in join_all(nodes.iter().map(|node| self.call_node(node, command))).await {
            match answer {
                Ok(reply) => replies.push(reply),
                Err(error) => errors.push(Error::from(error)),
            }
        }
        match errors.pop() {
            Some(error) if replies.is_empty() => Err(error),
            last => Ok((replies, errors.into_iter().chain(last).collect())),
        }
    }

    /// Sends one command to a server.
    pub(crate) async fn call_node(&self, node: &Node, command: &Cmd) -> Result<Value, CallError> {
        let commands = CallCommands { command, script: None, wait: None, asking: SendsAsking::No };
        let start = Instant::now();
        let answer = node.send(commands, start + self.shared.time_limit, self.shared.time_limit).await;
        let answer = answer.map(|(answer, _)| answer).map_err(|error| {
            if error.may_mean_topology_change() {
                self.shared.topology.note_failure();
            }
            self.shared.topology.add_server_address(node, error.into_call_error())
        });
        self.shared.calls.count_call(calls::COMMAND_LABEL, start.elapsed(), answer.as_ref().err());
        answer
    }

    /// Sends the call of a script to the server that has this slot. A script that stores messages waits until the required number
    /// of replicas has them.
    ///
    /// The call fails as `Unavailable` when too few replicas confirm in time, or when the connection is lost before they confirm. If
    /// too few replicas have confirmed the messages, the primary has the messages nevertheless, and the replicas may receive them
    /// later.
    pub(crate) async fn call_script(&self, slot: Slot, script: &Script, command: &Cmd) -> Result<Value, CallError> {
        let add_script_name = |error| with_script_name(script, error);
        let commands = CallCommands { command, script: Some(script), wait: None, asking: SendsAsking::No };
        if self.replicas == 0 || !script.stores_messages() {
            return self.send(slot, commands).await.map(|(answer, _)| answer).map_err(add_script_name);
        }
        let mut wait_command = redis::cmd("WAIT");
        // WAIT waits for half of the time limit, so that its reply arrives within the time limit of the call.
        wait_command.arg(self.replicas).arg(self.shared.time_limit.as_millis() / 2);
        let commands = CallCommands { wait: Some(&wait_command), ..commands };
        let (answer, confirmations) = self.send(slot, commands).await.map_err(add_script_name)?;
        if confirmations < self.replicas {
            // If too few replicas confirm a write, the replicas may follow another primary.
            self.shared.topology.note_failure();
            let error_text = format!("{confirmations} of {} replicas have confirmed in time", self.replicas);
            let error = CallError::Failed(Error::Unavailable(error_text));
            self.shared.calls.count_failure(script.name, &error);
            return Err(error);
        }
        Ok(answer)
    }

    async fn send(&self, slot: Slot, commands: CallCommands<'_>) -> Result<(Value, u32), CallError> {
        let start = Instant::now();
        let answer = self.send_until_deadline(slot, commands, start + self.shared.time_limit).await;
        self.shared.calls.count_call(commands.name(), start.elapsed(), answer.as_ref().err());
        answer
    }

    /// Sends a call. If the topology may change, a call that did not start is sent again until `deadline`.
    async fn send_until_deadline(
        &self,
        slot: Slot,
        commands: CallCommands<'_>,
        deadline: Instant,
    ) -> Result<(Value, u32), CallError> {
        let RedisState { topology, time_limit, .. } = &*self.shared;
        let mut redirections = 0;
        let mut redirect_target: Option<(Arc<Node>, SendsAsking)> = None;
        loop {
            let (node, asking) = match redirect_target.take() {
                Some(redirected) => redirected,
                None => (self.owner(slot, deadline).await?, SendsAsking::No),
            };
            let answer = node.send(CallCommands { asking, ..commands }, deadline, *time_limit).await;
            if answer.as_ref().is_err_and(SendError::may_mean_topology_change) {
                topology.note_failure();
            }
            let (reason, error) = match answer {
                Ok(answer) => return Ok(answer),
                Err(SendError::NotStarted(reason, error)) => (reason, topology.add_server_address(&node, error)),
                Err(SendError::Failed(error)) => return Err(topology.add_server_address(&node, error)),
            };
            if !topology.servers_may_change() {
                return Err(error);
            }
            redirect_target = match &reason {
                NotStartedReason::Moved(redirect) => {
                    topology.node_of_redirect(&node, redirect).map(|node| (node, SendsAsking::No))
                }
                NotStartedReason::Ask(redirect) => {
                    topology.node_of_redirect(&node, redirect).map(|node| (node, SendsAsking::Yes))
                }
                NotStartedReason::NotNow | NotStartedReason::Unreachable => None,
            };
            redirections += 1;
            if redirect_target.is_none() || redirections > MAX_REDIRECTIONS {
                let resend_at = Instant::now() + RESEND_PAUSE;
                if resend_at >= deadline {
                    return Err(match reason {
                        NotStartedReason::Moved(_) | NotStartedReason::Ask(_) => CallError::Failed(Error::Unavailable(
                            format!("slot {} moves to another server", slot.index()),
                        )),
                        NotStartedReason::NotNow | NotStartedReason::Unreachable => error,
                    });
                }
                redirect_target = None;
                sleep_until(resend_at).await;
            }
        }
    }
}

impl Redis {
    /// Returns the server that has this slot.
    async fn owner(&self, slot: Slot, deadline: Instant) -> Result<Arc<Node>, CallError> {
        let RedisState { topology, time_limit, .. } = &*self.shared;
        if let Some(owner) = topology.known_owner(slot) {
            return Ok(owner);
        }
        // A process rarely asks for the topology, so this future is boxed, which keeps the future of each call small.
        let find_result = timeout_at(deadline, Box::pin(topology.find_owner(slot))).await;
        let find_result = find_result
            .unwrap_or_else(|_| Err(Error::Unavailable(format!("the servers are not known within {time_limit:?}"))));
        find_result.map_err(CallError::Failed)
    }
}

impl CallCommands<'_> {
    /// The name under which the metrics count the call: that of its script, or `command`.
    fn name(&self) -> &'static str {
        self.script.map_or(calls::COMMAND_LABEL, |script| script.name)
    }
}

/// Adds the script's name to an unexpected error.
fn with_script_name(script: &Script, error: CallError) -> CallError {
    match error {
        CallError::Failed(Error::Unexpected(text)) => {
            CallError::Failed(Error::Unexpected(format!("{}.lua: {text}", script.name)))
        }
        other => other,
    }
}
