//! DNS over TCP: the other end of a guest's connection to port 53. It asks the stack's task, which owns the policy, and knows nothing else.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// A question holds one name of at most 255 octets and some options.
const QUESTION_BYTES_MAX: usize = 4096;
/// Clients that keep a connection for more questions ask again soon (RFC 7766, 6.2.3 speaks of seconds).
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// A question that came by stream.
pub(crate) struct StreamQuestion {
    /// The message as the guest wrote it.
    pub(crate) message: Vec<u8>,
    /// Takes the reply; dropped when there is none to give.
    pub(crate) reply: oneshot::Sender<Vec<u8>>,
}

/// Serves one connection until the guest closes it, is silent for too long, or sends something that cannot be a question.
pub(crate) async fn serve_stream(mut stream: UnixStream, questions: mpsc::Sender<StreamQuestion>) {
    loop {
        let Ok(Ok(length)) = timeout(IDLE_TIMEOUT, stream.read_u16()).await else { return };
        let length = usize::from(length);
        if length > QUESTION_BYTES_MAX {
            return;
        }
        let mut message = vec![0; length];
        let Ok(Ok(_)) = timeout(IDLE_TIMEOUT, stream.read_exact(&mut message)).await else { return };
        let (reply, answered) = oneshot::channel();
        if questions.send(StreamQuestion { message, reply }).await.is_err() {
            return;
        }
        let Ok(reply) = answered.await else { return };
        let Ok(length) = u16::try_from(reply.len()) else { return };
        if stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat()).await.is_err() {
            return;
        }
    }
}
