//! Control sockets: byte streams between the test process, the guardian and the keepers that also carry descriptors.
//!
//! SOCK_STREAM and not SOCK_SEQPACKET: one request may carry more than a megabyte of arguments and environment,
//! which no single datagram may.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// No frame carries more descriptors than this.
pub(crate) const MAX_FDS: usize = 8;

/// A connected pair, close-on-exec from the start.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// Sends what fits now; descriptors travel with the first byte.
///
/// `Ok(None)` when nothing fits now. A peer that is gone is `EPIPE`, never a SIGPIPE.
pub(crate) fn send_some(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<Option<usize>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one frame"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(n) => return Ok(Some(n)),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    }
}

/// What [`recv_some`] has received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes; 0 at end of file.
    pub(crate) bytes: usize,
    /// The kernel dropped descriptors (`MSG_CTRUNC`): the limit of open files is reached.
    pub(crate) lost_fds: bool,
}

/// Receives what is there; descriptors are close-on-exec from the start. `Ok(None)` when nothing is there yet.
pub(crate) fn recv_some(socket: &OwnedFd, buf: &mut [u8], fds: &mut VecDeque<OwnedFd>) -> io::Result<Option<Received>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let got = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags) {
            Ok(got) => break got,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            // A peer that died with bytes of ours unread: for us the same as an end of file.
            Err(rustix::io::Errno::CONNRESET) => return Ok(Some(Received { bytes: 0, lost_fds: false })),
            Err(e) => return Err(e.into()),
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(Some(Received { bytes: got.bytes, lost_fds: got.flags.contains(ReturnFlags::CTRUNC) }))
}

/// The process that made the pair (unix(7), `SO_PEERCRED`); `None` if this is no Unix-domain socket.
pub(crate) fn peer_pid(socket: BorrowedFd<'_>) -> Option<i32> {
    if rustix::net::sockopt::socket_domain(socket).ok()? != AddressFamily::UNIX {
        return None;
    }
    let cred = rustix::net::sockopt::socket_peercred(socket).ok()?;
    Some(cred.pid.as_raw_nonzero().get())
}
