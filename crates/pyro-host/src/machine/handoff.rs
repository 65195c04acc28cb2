//! Passes template memory between supervisors, so that a thousand clones of a template share one copy of it.
//!
//! Every supervisor listens on `handoff` in its machine's folder, which only its user can enter, and answers each connection with one
//! byte and the sealed memfd it was restored from.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::net::UnixStream as StdUnixStream,
    time::Duration,
};

use pyro_store::{Dirs, MachineId, MachineRecord};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::net::UnixListener;

use super::memory::SealedMemory;
use crate::error::{Doing as _, HostResult};

const SOCKET: &str = "handoff";
/// A supervisor answers within a millisecond; a stuck one must cost less than loading the stored copy.
const DEADLINE: Duration = Duration::from_millis(150);
/// How many siblings are asked before the stored copy is loaded.
const ASKED_MAX: usize = 2;

/// Answers siblings for as long as the supervisor lives.
pub(crate) fn serve(dirs: &Dirs, machine: &MachineId, memory: SealedMemory) -> HostResult<()> {
    let listener = pyro_store::bind_listener(&dirs.machine(machine), SOCKET)?;
    listener.set_nonblocking(true).doing("listen for siblings")?;
    let listener = UnixListener::from_std(listener).doing("listen for siblings")?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [memory.as_fd()];
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            // One byte fits into an empty socket buffer; a sibling that is gone already needs no answer.
            let _ = sendmsg(&stream, &[IoSlice::new(b"m")], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    });
    Ok(())
}

/// Asks living siblings for the memory of a template. Blocks for at most twice the deadline.
pub(crate) fn ask(dirs: &Dirs, machines: &[MachineRecord], own: &MachineRecord) -> Option<SealedMemory> {
    let siblings =
        machines.iter().filter(|machine| machine.id != own.id && machine.template == own.template && machine.machine_pid.is_some());
    siblings.take(ASKED_MAX).find_map(|sibling| {
        let stream = pyro_store::connect_stream(&sibling.folder(dirs), SOCKET).ok()?;
        receive(&stream).and_then(|memory| SealedMemory::verify(memory, own.shape.mem_mib << 20))
    })
}

fn receive(stream: &StdUnixStream) -> Option<OwnedFd> {
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).ok()?;
    let mut messages = ancillary.drain();
    messages.find_map(|message| if let RecvAncillaryMessage::ScmRights(mut descriptors) = message { descriptors.next() } else { None })
}
