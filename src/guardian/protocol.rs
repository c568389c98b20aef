//! What the test process, the guardian and the keepers say to each other, byte for byte.
//!
//! A frame is a length (4 bytes, little endian, of what follows), a tag (1 byte) and the fields.
//! All sides are the same program, so there is no negotiation: a version that differs is an error.
//! Decoding trusts nobody: a frame that is too long, cut short or has bytes left over is an error, and no length that it
//! claims is allocated before the bytes are there.

use std::collections::VecDeque;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use std::os::unix::process::ExitStatusExt;

use crate::sys::clone::Stage;
use crate::sys::fds::{Until, poll};
use crate::sys::inherit::{Inherited, LIMITS};
use crate::sys::tree::Survivor;
use crate::sys::{AsFd, BorrowedFd, OwnedFd, socket};

/// Changes with every change of a frame.
pub(crate) const VERSION: u32 = 1;

/// No frame is longer. Linux accepts at most 6 MiB of arguments and environment (execve(2)).
const LIMIT: usize = 16 << 20;

/// How a fixture's tree is asked to leave: each step ends early when nothing is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ladder {
    /// How long the helper may take after the end of its input, if that is a step at all.
    pub(crate) eof: Option<Duration>,
    /// How long the tree may take after SIGTERM, if that is a step at all.
    pub(crate) term: Option<Duration>,
}

impl Ladder {
    /// The time after which only SIGKILL is left.
    pub(crate) fn total(self) -> Duration {
        self.eof.unwrap_or_default().saturating_add(self.term.unwrap_or_default())
    }
}

/// What a keeper is to start. Four descriptors travel with it: working directory, standard input, output, error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) candidates: Vec<CString>,
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) dir: Option<CString>,
    pub(crate) inherited: Inherited,
    pub(crate) ladder: Ladder,
}

/// A process that had left its helper and was found below its keeper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) pid: i32,
    pub(crate) command: String,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Test process to guardian, first of all; the goodbye socket travels with it.
    Hello { version: u32, nonce: u64, runner: i32, temp_dir: PathBuf },
    /// Guardian to test process: ready. `root` is where the fixtures' directories go.
    Welcome { pid: i32, root: PathBuf },
    /// Guardian to test process: this system lacks what it needs.
    Unable { reason: String },
    /// Test process to guardian: one keeper, please.
    WantKeeper,
    /// Guardian to test process; the keeper's control socket travels with it.
    Keeper { pid: i32 },
    /// Test process to guardian, on the goodbye socket: everybody stops now; the slowest may take this long.
    Goodbye { slowest: Duration },
    /// Guardian to test process: nothing lives any more, except these.
    Empty { survivors: Vec<Survivor> },

    /// Test process to keeper.
    Spawn(Box<Order>),
    /// Keeper to test process; the helper's pidfd travels with it, where the kernel has such.
    Spawned { pid: i32 },
    /// Keeper to test process: this step failed with this errno.
    Refused { stage: Stage, errno: i32 },
    /// Test process to keeper: SIGTERM and SIGCONT to the helper's groups, nothing more.
    Terminate,
    /// Test process to keeper: take everything down in these steps.
    Stop(Ladder),
    /// Test process to keeper: take everything down at once.
    Kill,
    /// Keeper to test process: the helper has ended; this is still alive below it.
    Exited { status: ExitStatus, left: Vec<Found> },
    /// Keeper to test process, its last frame: the kernel says that nothing is left. What had to be killed beside the
    /// helper, and what could not be.
    Gone { escapees: Vec<Found>, survivors: Vec<Survivor> },
}

impl Frame {
    /// How many descriptors travel with this frame, at the least.
    fn descriptors(&self) -> usize {
        match self {
            Frame::Hello { .. } | Frame::Keeper { .. } => 1,
            Frame::Spawn(_) => 4,
            _ => 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![0; 4]);
        match self {
            Frame::Hello { version, nonce, runner, temp_dir } => {
                out.u8(0).u32(*version).u64(*nonce).i32(*runner).path(temp_dir);
            }
            Frame::Welcome { pid, root } => {
                out.u8(1).i32(*pid).path(root);
            }
            Frame::Unable { reason } => {
                out.u8(2).bytes(reason.as_bytes());
            }
            Frame::WantKeeper => {
                out.u8(3);
            }
            Frame::Keeper { pid } => {
                out.u8(4).i32(*pid);
            }
            Frame::Goodbye { slowest } => {
                out.u8(5).duration(*slowest);
            }
            Frame::Empty { survivors } => {
                out.u8(6).survivors(survivors);
            }
            Frame::Spawn(order) => {
                out.u8(7).strings(&order.candidates).strings(&order.args).strings(&order.env);
                out.strings(order.dir.as_slice());
                out.option(order.inherited.umask, Writer::u32).u64(order.inherited.ignored);
                for (soft, hard) in order.inherited.limits {
                    out.u64(soft).u64(hard);
                }
                out.ladder(order.ladder);
            }
            Frame::Spawned { pid } => {
                out.u8(8).i32(*pid);
            }
            Frame::Refused { stage, errno } => {
                out.u8(9).u8(stage.code()).i32(*errno);
            }
            Frame::Terminate => {
                out.u8(10);
            }
            Frame::Stop(ladder) => {
                out.u8(11).ladder(*ladder);
            }
            Frame::Kill => {
                out.u8(12);
            }
            Frame::Exited { status, left } => {
                out.u8(13).i32(status.into_raw()).found(left);
            }
            Frame::Gone { escapees, survivors } => {
                out.u8(14).found(escapees).survivors(survivors);
            }
        }
        let length = u32::try_from(out.0.len() - 4).unwrap_or(u32::MAX);
        out.0[..4].copy_from_slice(&length.to_le_bytes());
        out.0
    }

    /// Reads the tag and the fields of one whole frame.
    pub(crate) fn decode(body: &[u8]) -> Option<Frame> {
        let mut r = Reader(body);
        let frame = match r.u8()? {
            0 => Frame::Hello { version: r.u32()?, nonce: r.u64()?, runner: r.i32()?, temp_dir: r.path()? },
            1 => Frame::Welcome { pid: r.i32()?, root: r.path()? },
            2 => Frame::Unable { reason: r.text()? },
            3 => Frame::WantKeeper,
            4 => Frame::Keeper { pid: r.i32()? },
            5 => Frame::Goodbye { slowest: r.duration()? },
            6 => Frame::Empty { survivors: r.survivors()? },
            7 => {
                let (candidates, args, env) = (r.strings()?, r.strings()?, r.strings()?);
                let dir = r.strings()?.pop();
                let (umask, ignored) = (r.option(Reader::u32)?, r.u64()?);
                let mut limits = [(0, 0); LIMITS];
                for limit in &mut limits {
                    *limit = (r.u64()?, r.u64()?);
                }
                let inherited = Inherited { umask, ignored, limits };
                Frame::Spawn(Box::new(Order { candidates, args, env, dir, inherited, ladder: r.ladder()? }))
            }
            8 => Frame::Spawned { pid: r.i32()? },
            9 => Frame::Refused { stage: Stage::from_code(r.u8()?)?, errno: r.i32()? },
            10 => Frame::Terminate,
            11 => Frame::Stop(r.ladder()?),
            12 => Frame::Kill,
            13 => Frame::Exited { status: ExitStatus::from_raw(r.i32()?), left: r.found()? },
            14 => Frame::Gone { escapees: r.found()?, survivors: r.survivors()? },
            _ => return None,
        };
        r.0.is_empty().then_some(frame)
    }
}

/// One end of a control socket: whole frames out, whole frames in.
#[derive(Debug)]
pub(crate) struct Link {
    socket: Arc<OwnedFd>,
    inbox: Vec<u8>,
    fds: VecDeque<OwnedFd>,
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
        Link { socket: Arc::new(socket), inbox: Vec::new(), fds: VecDeque::new() }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The socket itself, to send through while somebody else waits for frames here.
    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }

    /// The next descriptor that has arrived.
    pub(crate) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }

    /// Takes one frame out of what has arrived, without waiting.
    pub(crate) fn next(&mut self) -> io::Result<Next> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(Next::Frame(frame));
            }
            match socket::recv_some(&self.socket, &mut chunk, &mut self.fds)? {
                None => return Ok(Next::NotYet),
                Some(0) => return Ok(Next::Closed),
                Some(n) => self.inbox.extend_from_slice(&chunk[..n]),
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
        if self.fds.len() < frame.descriptors() {
            return Err(malformed());
        }
        self.inbox.drain(..4 + length);
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
}

/// Sends one frame whole; the descriptors travel with its first byte.
///
/// # Errors
///
/// `BrokenPipe` when the other side is gone, `TimedOut` when it does not read, `InvalidInput` when the frame is too long.
/// After an error in the middle of a frame the socket is of no use any more.
pub(crate) fn send(socket: &OwnedFd, frame: &Frame, fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
    let bytes = frame.encode();
    if bytes.len() - 4 > LIMIT {
        return Err(io::Error::from_raw_os_error(crate::sys::E2BIG));
    }
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

struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    fn i32(&mut self, v: i32) -> &mut Self {
        self.u32(v.cast_unsigned())
    }
    fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    fn bytes(&mut self, v: &[u8]) -> &mut Self {
        self.u32(u32::try_from(v.len()).unwrap_or(u32::MAX)).0.extend_from_slice(v);
        self
    }
    fn path(&mut self, v: &Path) -> &mut Self {
        self.bytes(v.as_os_str().as_bytes())
    }
    fn duration(&mut self, v: Duration) -> &mut Self {
        self.u64(u64::try_from(v.as_micros()).unwrap_or(u64::MAX))
    }
    fn option<T>(&mut self, v: Option<T>, write: fn(&mut Self, T) -> &mut Self) -> &mut Self {
        match v {
            None => self.u8(0),
            Some(v) => write(self.u8(1), v),
        }
    }
    fn ladder(&mut self, v: Ladder) -> &mut Self {
        self.option(v.eof, Self::duration).option(v.term, Self::duration)
    }
    fn strings(&mut self, v: &[CString]) -> &mut Self {
        self.list(v, |w, s| {
            w.bytes(s.to_bytes());
        })
    }
    fn found(&mut self, v: &[Found]) -> &mut Self {
        self.list(v, |w, f| {
            w.i32(f.pid).bytes(f.command.as_bytes());
        })
    }
    fn survivors(&mut self, v: &[Survivor]) -> &mut Self {
        self.list(v, |w, s| {
            w.i32(s.pid).u64(s.start).bytes(s.command.as_bytes()).bytes(s.reason.as_bytes());
        })
    }
    fn list<T>(&mut self, v: &[T], each: impl Fn(&mut Self, &T)) -> &mut Self {
        self.u32(u32::try_from(v.len()).unwrap_or(u32::MAX));
        for item in v {
            each(self, item);
        }
        self
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    fn i32(&mut self) -> Option<i32> {
        Some(self.u32()?.cast_signed())
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }
    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
    fn path(&mut self) -> Option<PathBuf> {
        Some(PathBuf::from(OsString::from_vec(self.bytes()?.to_vec())))
    }
    fn duration(&mut self) -> Option<Duration> {
        Some(Duration::from_micros(self.u64()?))
    }
    fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(read(self)?)),
            _ => None,
        }
    }
    fn ladder(&mut self) -> Option<Ladder> {
        Some(Ladder { eof: self.option(Self::duration)?, term: self.option(Self::duration)? })
    }
    fn strings(&mut self) -> Option<Vec<CString>> {
        self.list(|r| CString::new(r.bytes()?).ok())
    }
    fn found(&mut self) -> Option<Vec<Found>> {
        self.list(|r| Some(Found { pid: r.i32()?, command: r.text()? }))
    }
    fn survivors(&mut self) -> Option<Vec<Survivor>> {
        self.list(|r| Some(Survivor { pid: r.i32()?, start: r.u64()?, command: r.text()?, reason: r.text()? }))
    }
    fn list<T>(&mut self, each: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // The count is a claim; the vector grows only as items really come.
        let mut items = Vec::new();
        for _ in 0..self.u32()? {
            items.push(each(self)?);
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Frame> {
        let text = |s: &str| CString::new(s).unwrap();
        let ladder = Ladder { eof: None, term: Some(Duration::from_millis(1500)) };
        let survivor = Survivor { pid: 9, start: 77, command: "x".into(), reason: "y".into() };
        let found = Found { pid: 5, command: "sleep 9".into() };
        let inherited = Inherited { umask: Some(0o22), ignored: 5, limits: [(1, u64::MAX); LIMITS] };
        vec![
            Frame::Hello { version: 3, nonce: u64::MAX, runner: -1, temp_dir: "/tmp".into() },
            Frame::Welcome { pid: 1, root: "/tmp/x".into() },
            Frame::Unable { reason: "no /proc".into() },
            Frame::WantKeeper,
            Frame::Keeper { pid: 4 },
            Frame::Goodbye { slowest: Duration::from_secs(3) },
            Frame::Empty { survivors: vec![survivor.clone()] },
            Frame::Spawn(Box::new(Order {
                candidates: vec![text("/bin/sh"), text("/usr/bin/sh")],
                args: vec![text("sh"), text("-c"), text("")],
                env: vec![text("A=B")],
                dir: Some(text("/")),
                inherited,
                ladder,
            })),
            Frame::Spawned { pid: 2 },
            Frame::Refused { stage: Stage::Chdir, errno: 2 },
            Frame::Terminate,
            Frame::Stop(ladder),
            Frame::Kill,
            Frame::Exited { status: ExitStatus::from_raw(256), left: vec![found.clone()] },
            Frame::Gone { escapees: vec![found], survivors: vec![survivor] },
        ]
    }

    #[test]
    fn every_frame_comes_back_as_it_was() {
        for frame in samples() {
            let bytes = frame.encode();
            assert_eq!(Frame::decode(&bytes[4..]), Some(frame));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_or_with_a_byte_too_many_is_refused() {
        for frame in samples() {
            let bytes = frame.encode();
            for end in 4..bytes.len() {
                assert_eq!(Frame::decode(&bytes[4..end]), None, "{frame:?} cut to {end}");
            }
            let mut longer = bytes[4..].to_vec();
            longer.push(0);
            assert_eq!(Frame::decode(&longer), None, "{frame:?} with a byte more");
        }
    }

    #[test]
    fn a_count_that_lies_allocates_nothing() {
        let mut frame = vec![6];
        frame.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Frame::decode(&frame), None);
    }

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
