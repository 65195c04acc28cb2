//! Why a stack could not be started, or ended.

use std::io;

/// A failure of the whole stack; what happens to single connections is told by events.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants and their fields are")]
pub enum EgressError {
    #[error("cannot start the workspace's network: {problem}")]
    Configuration { problem: &'static str },
    #[error("cannot read the host's own addresses from `{path}`")]
    HostAddresses { path: &'static str, source: io::Error },
    #[error("cannot exchange frames with the machine")]
    Link(#[source] io::Error),
    #[error("the machine announced a frame of {length_bytes} bytes, more than there can be")]
    FrameTooLong { length_bytes: u32 },
    #[error("the machine closed its link within a frame")]
    FrameCut,
    #[error("the workspace's network has ended")]
    Ended,
}
