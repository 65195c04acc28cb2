//! Starting a stack, changing its policy while it runs, and ending it.

use std::net::SocketAddrV4;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::configuration::Configuration;
use crate::error::EgressError;
use crate::event::{Counters, Events};
use crate::policy::Policy;
use crate::stack::{Command, Stack};

/// Commands are answered one by one, so few ever wait.
const COMMANDS_WAITING: usize = 8;

/// A running stack. Dropping it ends the stack and closes every socket, at the latest when the runtime next has a turn.
#[derive(Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    task: JoinHandle<Result<(), EgressError>>,
}

/// Starts a stack on a task of the caller's runtime. `socket` is the other end of QEMU's `-netdev stream`.
///
/// # Errors
///
/// Fails if the configuration contradicts itself.
///
/// # Panics
///
/// Panics outside of a tokio runtime with I/O and time.
pub fn start(socket: UnixStream, configuration: Configuration, policy: Policy) -> Result<(Handle, Events), EgressError> {
    configuration.check()?;
    let (commands, commanded) = mpsc::channel(COMMANDS_WAITING);
    let (events, happened) = mpsc::channel(configuration.caps.events_waiting.max(1));
    let stack = Stack::new(socket, configuration, policy, commanded, events);
    let task = tokio::spawn(stack.run());
    Ok((Handle { commands, task }, Events(happened)))
}

impl Handle {
    /// Changes the policy. When this returns it holds, and what it refuses has been reset; returns how many connections and
    /// associations that were. Dropping the future does not take the change back.
    ///
    /// # Errors
    ///
    /// Fails if the stack has ended.
    pub async fn set_policy(&self, policy: Policy) -> Result<usize, EgressError> {
        let (done, ended) = oneshot::channel();
        self.commands.send(Command::SetPolicy(policy, done)).await.map_err(|_| EgressError::Ended)?;
        ended.await.map_err(|_| EgressError::Ended)
    }

    /// Has the guest find out that connections are over which the stack does not know: those of a machine that was frozen with them and
    /// woke up behind another stack. A process that only waits for something to read would never hear of it. The port is the guest's.
    ///
    /// # Errors
    ///
    /// Fails if the stack has ended.
    pub async fn part_with(&self, connections: Vec<(u16, SocketAddrV4)>) -> Result<(), EgressError> {
        self.commands.send(Command::PartWith(connections)).await.map_err(|_| EgressError::Ended)
    }

    /// Returns what the stack holds now and has done so far.
    ///
    /// # Errors
    ///
    /// Fails if the stack has ended.
    pub async fn counters(&self) -> Result<Counters, EgressError> {
        let (answer, counted) = oneshot::channel();
        self.commands.send(Command::Count(answer)).await.map_err(|_| EgressError::Ended)?;
        counted.await.map_err(|_| EgressError::Ended)
    }

    /// Waits until the stack ends by itself: the machine has closed its link, or broken its framing. Dropping the future ends nothing.
    ///
    /// # Errors
    ///
    /// Fails with what the machine did wrong.
    pub async fn ended(&mut self) -> Result<(), EgressError> {
        match (&mut self.task).await {
            Ok(result) => result,
            Err(_) => Err(EgressError::Ended),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
