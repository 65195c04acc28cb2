//! The calls that feed a command, one after the other.

use pyro_proto::v1::{ExecInput, exec_input};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::commands::Commands;

/// Where a running command's inputs come from.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// A call.
    Call(Box<Streaming<ExecInput>>),
    /// Nobody.
    Closed,
}

#[derive(Debug)]
pub(crate) enum Next {
    Input(exec_input::Input),
    /// No more will come, as the client has said.
    Closed,
    /// The call was cut.
    Cut,
}

impl Inputs {
    /// Returns the next input. Safe to drop and call again.
    async fn next(&mut self) -> Next {
        let Self::Call(call) = self else { return Next::Closed };
        loop {
            match call.message().await {
                // An input this generation does not know.
                Ok(Some(ExecInput { input: None })) => {}
                Ok(Some(ExecInput { input: Some(input) })) => return Next::Input(input),
                Ok(None) => return Next::Closed,
                Err(_) => return Next::Cut,
            }
        }
    }
}

/// A command's calls, one after the other.
#[derive(Debug)]
pub(crate) struct Calls {
    /// Of the present call, until they end.
    pub(crate) inputs: Option<Inputs>,
    /// Of those that attach later.
    pub(crate) later: mpsc::UnboundedReceiver<Inputs>,
    /// Where the end is told; None for a command that ends with its first call.
    pub(crate) table: Option<(u64, Commands)>,
}

impl Calls {
    /// Returns the next input of the present call. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            let present = async {
                match self.inputs.as_mut() {
                    Some(inputs) => inputs.next().await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                Some(later) = self.later.recv() => {
                    self.inputs = Some(later);
                    continue;
                }
                next = present => next,
            };
            if !matches!(next, Next::Input(_)) {
                self.inputs = None;
            }
            return next;
        }
    }
}
