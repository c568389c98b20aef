//! What the test process, the guardian and the keepers say to each other, byte for byte.
//!
//! A frame is a length (4 bytes, little endian, of what follows), a tag (1 byte) and the fields.
//! All sides are the same program, so there is no negotiation: a version that differs is an error.
//! Decoding trusts nobody: a frame that is too long, cut short or has bytes left over is an error, and no length that it
//! claims is allocated before the bytes are there.

use std::ffi::CString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use super::codec::{Reader, Writer};
use crate::sys::clone::Stage;
use crate::sys::inherit::{Inherited, LIMITS};
use crate::sys::tree::Survivor;

/// Changes with every change of a frame.
pub(crate) const VERSION: u32 = 4;

/// No frame is longer. Linux accepts at most 6 MiB of arguments and environment (execve(2)).
pub(super) const LIMIT: usize = 16 << 20;

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
    /// The standard streams are a terminal, which becomes the helper's controlling one.
    pub(crate) terminal: bool,
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
    /// Test process to guardian, first of all; the goodbye socket travels with it. Whether it may use cgroups.
    Hello { version: u32, nonce: u64, runner: i32, temp_dir: PathBuf, cgroups: bool },
    /// Guardian to test process: ready. `root` is where the fixtures' directories go, `cgroup` where their cgroups are, or
    /// why there are none.
    Welcome { pid: i32, root: PathBuf, cgroup: Result<PathBuf, String> },
    /// Guardian to test process: this system lacks what it needs.
    Unable { errno: i32, reason: String },
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
    /// Keeper to test process; the helper's pidfd travels with it, where the kernel has such. Is it in a cgroup?
    Spawned { pid: i32, in_cgroup: bool },
    /// Keeper to test process: this step failed with this errno.
    Refused { stage: Stage, errno: i32 },
    /// Test process to keeper: SIGTERM and SIGCONT to the helper's groups, nothing more.
    Terminate,
    /// Test process to keeper: take everything down in these steps.
    Stop(Ladder),
    /// Test process to keeper: take everything down at once.
    Kill,
    /// Keeper to test process: the helper has ended, so long after its start; this is still alive below it.
    /// The note says why the keeper itself has ended it, if it was for lack of somebody to ask.
    Exited { status: ExitStatus, after: Duration, left: Vec<Found>, note: String },
    /// Keeper to test process, the last frame about this helper: the kernel says that nothing is left. What had to be killed
    /// beside the helper, what could not be, and whether the keeper stays for another order.
    Gone { escapees: Vec<Found>, survivors: Vec<Survivor>, stays: bool },
    /// Guardian to test process: no keeper could be made, for this errno; it may be asked again.
    NoKeeper { errno: i32 },
    /// Test process to guardian: this keeper does not answer any more; end it.
    KillKeeper { pid: i32 },
}

impl Frame {
    /// How many descriptors travel with this frame, at the least.
    pub(super) fn descriptors(&self) -> usize {
        match self {
            Frame::Hello { .. } | Frame::Keeper { .. } => 1,
            Frame::Spawn(_) => 4,
            _ => 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer(vec![0; 4]);
        match self {
            Frame::Hello { version, nonce, runner, temp_dir, cgroups } => {
                out.u8(0).u32(*version).u64(*nonce).i32(*runner).path(temp_dir).bool(*cgroups);
            }
            Frame::Welcome { pid, root, cgroup } => {
                out.u8(1).i32(*pid).path(root);
                match cgroup {
                    Ok(path) => out.bool(true).path(path),
                    Err(reason) => out.bool(false).bytes(reason.as_bytes()),
                };
            }
            Frame::Unable { errno, reason } => {
                out.u8(2).i32(*errno).bytes(reason.as_bytes());
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
                out.ladder(order.ladder).bool(order.terminal);
            }
            Frame::Spawned { pid, in_cgroup } => {
                out.u8(8).i32(*pid).bool(*in_cgroup);
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
            Frame::Exited { status, after, left, note } => {
                out.u8(13).i32(status.into_raw()).duration(*after).found(left).bytes(note.as_bytes());
            }
            Frame::NoKeeper { errno } => {
                out.u8(15).i32(*errno);
            }
            Frame::KillKeeper { pid } => {
                out.u8(16).i32(*pid);
            }
            Frame::Gone { escapees, survivors, stays } => {
                out.u8(14).found(escapees).survivors(survivors).bool(*stays);
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
            0 => Frame::Hello {
                version: r.u32()?,
                nonce: r.u64()?,
                runner: r.i32()?,
                temp_dir: r.path()?,
                cgroups: r.bool()?,
            },
            1 => Frame::Welcome {
                pid: r.i32()?,
                root: r.path()?,
                cgroup: if r.bool()? { Ok(r.path()?) } else { Err(r.text()?) },
            },
            2 => Frame::Unable { errno: r.i32()?, reason: r.text()? },
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
                let (ladder, terminal) = (r.ladder()?, r.bool()?);
                Frame::Spawn(Box::new(Order { candidates, args, env, dir, inherited, ladder, terminal }))
            }
            8 => Frame::Spawned { pid: r.i32()?, in_cgroup: r.bool()? },
            9 => Frame::Refused { stage: Stage::from_code(r.u8()?)?, errno: r.i32()? },
            10 => Frame::Terminate,
            11 => Frame::Stop(r.ladder()?),
            12 => Frame::Kill,
            13 => Frame::Exited {
                status: ExitStatus::from_raw(r.i32()?),
                after: r.duration()?,
                left: r.found()?,
                note: r.text()?,
            },
            14 => Frame::Gone { escapees: r.found()?, survivors: r.survivors()?, stays: r.bool()? },
            15 => Frame::NoKeeper { errno: r.i32()? },
            16 => Frame::KillKeeper { pid: r.i32()? },
            _ => return None,
        };
        r.0.is_empty().then_some(frame)
    }
}

#[cfg(any(test, fuzzing))]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn samples() -> Vec<Frame> {
        let text = |s: &str| CString::new(s).unwrap();
        let ladder = Ladder { eof: None, term: Some(Duration::from_millis(1500)) };
        let survivor = Survivor { pid: 9, start: 77, command: "x".into(), reason: "y".into() };
        let found = Found { pid: 5, command: "sleep 9".into() };
        let inherited = Inherited { umask: Some(0o22), ignored: 5, limits: [(1, u64::MAX); LIMITS] };
        vec![
            Frame::Hello { version: 4, nonce: u64::MAX, runner: -1, temp_dir: "/tmp".into(), cgroups: true },
            Frame::Welcome { pid: 1, root: "/tmp/x".into(), cgroup: Ok("/sys/fs/cgroup/x".into()) },
            Frame::Welcome { pid: 1, root: "/tmp/x".into(), cgroup: Err("no".into()) },
            Frame::Unable { errno: 0, reason: "no /proc".into() },
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
                terminal: true,
            })),
            Frame::Spawned { pid: 2, in_cgroup: false },
            Frame::Refused { stage: Stage::Chdir, errno: 2 },
            Frame::Terminate,
            Frame::Stop(ladder),
            Frame::Kill,
            Frame::Exited {
                status: ExitStatus::from_raw(256),
                after: Duration::from_millis(3),
                left: vec![found.clone()],
                note: "because".into(),
            },
            Frame::Gone { escapees: vec![found], survivors: vec![survivor], stays: true },
            Frame::NoKeeper { errno: 11 },
            Frame::KillKeeper { pid: 12 },
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

    /// Neither arbitrary bytes nor frames with a few bytes changed make the decoder panic, and what it accepts is a frame
    /// that says the same when it is written again.
    #[test]
    fn arbitrary_bytes_are_refused_or_are_a_frame() {
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut random = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 8).unwrap_or(0) % n
        };
        let samples = samples();
        let mut accepted = 0;
        for round in 0..100_000 {
            let body: Vec<u8> = if round % 4 == 0 {
                let length = random(64);
                (0..length).map(|_| random(256) as u8).collect()
            } else {
                let mut body = samples[random(samples.len())].encode()[4..].to_vec();
                for _ in 0..=random(3) {
                    match random(3) {
                        0 => body.truncate(random(body.len() + 1)),
                        1 => body.push(random(256) as u8),
                        _ if body.is_empty() => {}
                        _ => {
                            let at = random(body.len());
                            body[at] = random(256) as u8;
                        }
                    }
                }
                body
            };
            if let Some(frame) = Frame::decode(&body) {
                accepted += 1;
                let again = Frame::decode(&frame.encode()[4..]);
                assert_eq!(again, Some(frame), "{body:?}");
            }
        }
        assert!(accepted > 1000, "only {accepted} were frames: the changes are too coarse to prove anything");
    }

    /// Four bytes in the frame are sixteen in the vector: without a bound, one of 16 MiB would take 64.
    #[test]
    fn a_list_is_no_longer_in_memory_than_a_frame_may_be() {
        let order = |count| Order {
            candidates: vec![],
            args: vec![CString::default(); count],
            env: vec![],
            dir: None,
            inherited: Inherited { umask: None, ignored: 0, limits: [(0, 0); LIMITS] },
            ladder: Ladder { eof: None, term: None },
            terminal: false,
        };
        let most = LIMIT / size_of::<CString>();
        let longest = Frame::Spawn(Box::new(order(most)));
        assert!(Frame::decode(&longest.encode()[4..]) == Some(longest));
        let longer = Frame::Spawn(Box::new(order(most + 1)));
        assert!(Frame::decode(&longer.encode()[4..]).is_none());
    }

    #[test]
    fn a_count_that_lies_allocates_nothing() {
        let mut frame = vec![6];
        frame.extend_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Frame::decode(&frame), None);
    }
}
