//! Life of a supervisor, from its inherited descriptors to its last file.
//!
//! ```text
//! inherit socket and lock ─▶ serve ─▶ template ─▶ restore ─▶ (standby: warm, offer) ─▶ adopt ─▶ commands … ─▶ end
//! ```
//!
//! One thread runs everything, and it is the main thread, so QEMU's parent-death signal fires exactly when the supervisor dies. The end
//! goes in this order: guest (if there is time), QEMU, registry, the machine's folder, and last, with the process, the lock.

use std::{os::unix::net::UnixListener as StdUnixListener, sync::Arc};

use pyro_proto::{limits, v1::supervisor_server::SupervisorServer};
use pyro_store::{FileLock, INHERITED_LISTENER, INHERITED_LOCK, Registry, SupervisorArguments};
use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::wrappers::UnixListenerStream;

use crate::{
    error::{Doing as _, HostError, HostResult},
    workspace::{Service, Supervisor},
};

/// Body of `pyro __supervise`. Returns when the machine is gone and everything it left has been cleaned up.
///
/// # Errors
/// The supervisor could not even begin, or could not clean up; the text says why, for its log.
pub fn supervise(arguments: &str) -> Result<(), String> {
    let describe = |error: HostError| {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(error) = cause {
            text.push_str(&format!(": {error}"));
            cause = error.source();
        }
        text
    };
    let arguments: SupervisorArguments = serde_json::from_str(arguments).map_err(|error| format!("unreadable argument: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let (listener, lock) = inherit().map_err(describe)?;
    let result = runtime.block_on(run(arguments, listener)).map_err(describe);
    // A thread that waits for a standby machine's supervisor, which outlives us, is not waited for.
    runtime.shutdown_background();
    drop(lock);
    result
}

fn inherit() -> HostResult<(StdUnixListener, FileLock)> {
    // Already a session leader only when started by hand under a shell without job control; either way signals to the client's group
    // do not reach us.
    let _ = rustix::process::setsid();
    // What a client left open must not reach QEMU through us. Before Linux 5.11 the launcher of each machine fails instead.
    drop(pyro_sys::inherit::keep_from_children(INHERITED_LOCK.cast_unsigned() + 1));
    let listener = pyro_sys::inherit::take_inherited(INHERITED_LISTENER).doing("inherit the supervisor's socket")?;
    let lock = pyro_sys::inherit::take_inherited(INHERITED_LOCK).doing("inherit the machine's lock")?;
    let listener = StdUnixListener::from(listener);
    listener.set_nonblocking(true).doing("prepare the supervisor's socket")?;
    Ok((listener, FileLock::from_inherited(lock)))
}

async fn run(arguments: SupervisorArguments, listener: StdUnixListener) -> HostResult<()> {
    let mut registry = Registry::open(&arguments.dirs)?;
    let Some(record) = registry.machine(&arguments.machine)? else {
        return Err(HostError::WrongState { problem: format!("machine {} is not in the registry", arguments.machine) });
    };
    registry.act_for(&record.id);
    let (ends, end_requests) = mpsc::channel(8);
    let supervisor = Arc::new(Supervisor::new(arguments, record, registry, ends));
    let listener = UnixListener::from_std(listener).doing("prepare the supervisor's socket")?;
    let service = SupervisorServer::new(Service::new(supervisor.clone()))
        .max_decoding_message_size(limits::MESSAGE_MAX_BYTES)
        .max_encoding_message_size(limits::MESSAGE_MAX_BYTES);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
        .max_frame_size(limits::FRAME_MAX_BYTES)
        .add_service(service)
        .serve_with_incoming(UnixListenerStream::new(listener));
    let server = tokio::spawn(server);
    let result = supervisor.live(end_requests).await;
    // Answers on their way out get a moment; a client that does not read them must not keep a finished supervisor alive.
    supervisor.drain_answers().await;
    server.abort();
    result
}
