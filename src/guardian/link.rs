//! One end of a control socket: whole frames out, whole frames in, descriptors with them.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::codec::MOST_STRINGS;
use super::protocol::{Frame, LIMIT, Order};
use crate::sys::fds::{Until, poll};
use crate::sys::{AsFd, BorrowedFd, OwnedFd, socket};

/// One end of a control socket: whole frames out, whole frames in.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<OwnedFd>,
    inbox: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    /// Descriptors of the frame that is being received could not be received.
    lost_fds: bool,
}

/// What [`Link::next`] has found.
#[derive(Debug)]
pub(crate) enum Next {
    Frame(Frame),
    /// Nothing whole has arrived yet.
    NotYet,
    /// The other side is gone.
    Closed,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd) -> Link {
        Link { socket: Arc::new(socket), inbox: Vec::new(), fds: VecDeque::new(), lost_fds: false }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket itself, to send through while somebody else waits for frames here.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// Nothing has arrived that has not been taken out.
    pub(super) fn is_clear(&self) -> bool {
        self.inbox.is_empty() && self.fds.is_empty()
    }

    /// The next descriptor that has arrived.
    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Takes one frame out of what has arrived, without waiting.
    ///
    /// # Errors
    ///
    /// `EMFILE` for a frame whose descriptors were lost because the limit of open files is reached: the frame is consumed,
    /// and the link goes on with the next one. After any other error it is of no use any more.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let mut chunk = [0; 4 * 1024];
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(Next::Frame(frame));
            }
            match socket::recv_some(&self.socket, &mut chunk, &mut self.fds)? {
                None => return Ok(Next::NotYet),
                Some(got) if got.bytes == 0 => return Ok(Next::Closed),
                Some(got) => {
                    self.lost_fds |= got.lost_fds;
                    self.inbox.extend_from_slice(&chunk[..got.bytes]);
                }
            }
        }
    }

    fn whole_frame(&mut self) -> io::Result<Option<Frame>> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed frame on the control socket");
        let Some((length, rest)) = self.inbox.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > LIMIT {
            return Err(malformed());
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(body).ok_or_else(malformed)?;
        if self.fds.len() < frame.descriptors() && !self.lost_fds {
            return Err(malformed());
        }
        self.inbox.drain(..4 + length);
        if std::mem::take(&mut self.lost_fds) {
            self.fds.clear();
            return Err(io::Error::from_raw_os_error(crate::sys::EMFILE));
        }
        Ok(Some(frame))
    }

    /// Waits for one frame; `TimedOut` when the deadline has passed, `UnexpectedEof` when the other side is gone.
    pub(crate) fn wait_next(&mut self, deadline: Instant) -> io::Result<Frame> {
        loop {
            match self.next()? {
                Next::Frame(frame) => return Ok(frame),
                Next::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
                Next::NotYet if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                Next::NotYet => {
                    poll([Some((self.as_fd(), Until::Readable))], Some(deadline))?;
                }
            }
        }
    }

    pub(crate) fn send(&self, frame: &Frame, fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
        send(&self.socket, frame, fds, deadline)
    }

    /// Several frames without descriptors, in one system call if they fit.
    pub(super) fn send_all(&self, frames: &[Frame], deadline: Instant) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        send_bytes(&self.socket, &bytes, &[], deadline)
    }
}

/// Sends one frame whole; the descriptors travel with its first byte.
///
/// # Errors
///
/// `BrokenPipe` when the other side is gone, `TimedOut` when it does not read, `InvalidInput` when the frame is too long.
/// After an error in the middle of a frame the socket is of no use any more.
pub(crate) fn send(socket: &OwnedFd, frame: &Frame, fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
    let too_many = |order: &Order| [&order.args, &order.env].iter().any(|list| list.len() > MOST_STRINGS);
    let bytes = frame.encode();
    if bytes.len() - 4 > LIMIT || matches!(frame, Frame::Spawn(order) if too_many(order)) {
        return Err(io::Error::from_raw_os_error(crate::sys::E2BIG));
    }
    send_bytes(socket, &bytes, fds, deadline)
}

fn send_bytes(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
    let mut sent = 0;
    while sent < bytes.len() {
        let with = if sent == 0 { fds } else { &[] };
        match socket::send_some(socket, &bytes[sent..], with)? {
            Some(n) => sent += n,
            None if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            None => {
                poll([Some((socket.as_fd(), Until::Writable))], Some(deadline))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_refuses_a_length_beyond_the_limit_before_it_reads_the_body() {
        let (a, b) = socket::pair().unwrap();
        socket::send_some(&a, &u32::MAX.to_le_bytes(), &[]).unwrap();
        assert_eq!(Link::new(b).next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_frame_without_its_descriptors_is_refused() {
        let (a, b) = socket::pair().unwrap();
        send(&a, &Frame::Keeper { pid: 1 }, &[], Instant::now()).unwrap();
        assert_eq!(Link::new(b).next().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
