//! A helper without a program: a thread of the test process that plays the other side of a script.
//!
//! It speaks the keeper's protocol on a socket and the helper's words on three pipes, so the rest of the crate does not know
//! the difference. It ends when its part is over, when it is asked to, or when the fixture lets go of its socket: it never
//! waits for anything else.

use std::io;
use std::time::{Duration, Instant};

use super::mirror::{Act, Mirror};
use crate::dialogue::conversation::Channel;
use crate::guardian::handle::{self, Handle, Reports};
use crate::guardian::link::{Link, Next};
use crate::guardian::protocol::{Frame, Ladder};
use crate::sys::fds::{Until, poll, read_some, set_nonblocking, write_some};
use crate::sys::{AsFd, OwnedFd, exit_status, killed_status, process, signals, socket};
use crate::transcript::Visible;

/// The status of a fake that was sent something else than it expects.
const CONFUSED: i32 = 101;

/// How long the last frames may wait for room in the socket, which is empty.
const TELL_LIMIT: Duration = Duration::from_secs(1);

/// What there is to do, checked.
#[derive(Debug)]
pub(crate) struct Part(Vec<Act>);

impl Part {
    /// # Errors
    ///
    /// Why the mirror cannot be played.
    pub(crate) fn of(mirror: &Mirror) -> Result<Part, String> {
        mirror.acts().map(Part)
    }
}

/// Begins to play on these standard streams.
///
/// # Errors
///
/// When there are no descriptors or threads left.
pub(crate) fn start(part: Part, [stdin, stdout, stderr]: [OwnedFd; 3]) -> io::Result<(Handle, Reports)> {
    for fd in [&stdin, &stdout, &stderr] {
        set_nonblocking(fd)?;
    }
    let (ours, theirs) = socket::pair()?;
    let fake = Fake {
        acts: part.0.into_iter(),
        stdin: Some(stdin),
        stdout: Some(stdout),
        stderr: Some(stderr),
        heard: Vec::new(),
        link: Link::new(theirs),
        started: Instant::now(),
    };
    let thread = std::thread::Builder::new().name("foster-fake".to_owned());
    signals::with_all_blocked(|| thread.spawn(move || fake.live()))?;
    Ok(handle::assemble(process::own_pid(), None, None, Link::new(ours)))
}

struct Fake {
    acts: std::vec::IntoIter<Act>,
    /// `None` at its end.
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// What was sent and not expected yet.
    heard: Vec<u8>,
    link: Link,
    started: Instant,
}

/// How a fake ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Exit(i32),
    Signal(i32),
}

/// What has to happen before it can go on.
#[derive(Debug, Clone, Copy)]
enum Need {
    /// More input, or its end.
    Input,
    /// Room in this stream.
    Room(Channel),
}

impl Fake {
    fn live(mut self) {
        let end = self.play();
        // Its last words are there before the news of its end.
        (self.stdin, self.stdout, self.stderr) = (None, None, None);
        let status = match end {
            End::Exit(status) => exit_status(status),
            End::Signal(signal) => killed_status(signal),
        };
        let exited = Frame::Exited { status, after: self.started.elapsed(), left: Vec::new(), note: String::new() };
        let gone = Frame::Gone { escapees: Vec::new(), survivors: Vec::new(), stays: false };
        for frame in [exited, gone] {
            // If nobody hears it, the fixture is gone.
            let _ = self.link.send(&frame, &[], Instant::now() + TELL_LIMIT);
        }
    }

    fn play(&mut self) -> End {
        let mut stop_at: Option<(Instant, i32)> = None;
        let mut current = self.acts.next();
        loop {
            let need = match self.go_on(&mut current) {
                Ok(need) => need,
                Err(end) => return end,
            };
            let (input, out, err) = match need {
                Need::Input => (self.stdin.as_ref(), None, None),
                Need::Room(Channel::Stdout) => (None, self.stdout.as_ref(), None),
                Need::Room(Channel::Stderr) => (None, None, self.stderr.as_ref()),
            };
            let set = [
                Some((self.link.as_fd(), Until::Readable)),
                input.map(|fd| (fd.as_fd(), Until::Readable)),
                out.map(|fd| (fd.as_fd(), Until::Writable)),
                err.map(|fd| (fd.as_fd(), Until::Writable)),
            ];
            let Ok([asked, input, ..]) = poll(set, stop_at.map(|(at, _)| at)) else { return End::Exit(CONFUSED) };
            // All that has come: two requests may come in one read.
            if asked {
                loop {
                    match self.link.next() {
                        Ok(Next::NotYet) => break,
                        Ok(Next::Frame(Frame::Terminate)) => return End::Signal(signals::SIGTERM),
                        Ok(Next::Frame(Frame::Stop(Ladder { eof, term }))) => {
                            let signal = if term.is_some() { signals::SIGTERM } else { signals::SIGKILL };
                            // Its input ends at the same time; without that step of the ladder it has no time to see that.
                            stop_at.get_or_insert((Instant::now() + eof.unwrap_or_default(), signal));
                        }
                        _ => return End::Signal(signals::SIGKILL),
                    }
                }
            }
            if input {
                self.listen();
            }
            if let Some((_, signal)) = stop_at.filter(|(at, _)| Instant::now() >= *at) {
                return End::Signal(signal);
            }
        }
    }

    fn listen(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        let mut chunk = [0; 16 << 10];
        match read_some(stdin, &mut chunk) {
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => self.stdin = None,
            Ok(Some(n)) => self.heard.extend_from_slice(&chunk[..n]),
        }
    }

    /// Does what can be done without waiting.
    fn go_on(&mut self, current: &mut Option<Act>) -> Result<Need, End> {
        loop {
            match current {
                Some(Act::Print(channel, bytes)) => {
                    let fd = match channel {
                        Channel::Stdout => &self.stdout,
                        Channel::Stderr => &self.stderr,
                    };
                    match fd.as_ref().map(|fd| write_some(fd, bytes)) {
                        Some(Ok(Some(n))) if n < bytes.len() => drop(bytes.drain(..n)),
                        Some(Ok(None)) => return Ok(Need::Room(*channel)),
                        Some(Err(_)) => return Err(End::Signal(signals::SIGPIPE)),
                        // Written, or closed by the script itself.
                        Some(Ok(Some(_))) | None => *current = self.acts.next(),
                    }
                }
                Some(Act::Read { bytes, step, secret }) => {
                    let common = bytes.len().min(self.heard.len());
                    let differs = self.heard[..common] != bytes[..common];
                    if !differs && self.heard.len() >= bytes.len() {
                        self.heard.drain(..bytes.len());
                        *current = self.acts.next();
                    } else if differs || self.stdin.is_none() {
                        let wanted = if *secret { "a secret".to_owned() } else { quoted(bytes) };
                        let got = if *secret { "something else".to_owned() } else { self.got() };
                        return Err(self.complain(&format!("expected {wanted} ({step}) and got {got}")));
                    } else {
                        return Ok(Need::Input);
                    }
                }
                Some(Act::ReadEof { step }) => {
                    if !self.heard.is_empty() {
                        let complaint = format!("expected the end of its input ({step}) and got {}", self.got());
                        return Err(self.complain(&complaint));
                    }
                    if self.stdin.is_some() {
                        return Ok(Need::Input);
                    }
                    *current = self.acts.next();
                }
                Some(Act::CloseStdout) => {
                    self.stdout = None;
                    *current = self.acts.next();
                }
                Some(Act::Exit(status)) => return Err(End::Exit(*status)),
                None if !self.heard.is_empty() => {
                    let complaint = format!("has nothing to expect any more and got {}", self.got());
                    return Err(self.complain(&complaint));
                }
                None if self.stdin.is_some() => return Ok(Need::Input),
                None => return Err(End::Exit(0)),
            }
        }
    }

    /// What it was sent, for a complaint.
    fn got(&self) -> String {
        if self.heard.is_empty() { "the end of its input".to_owned() } else { quoted(&self.heard) }
    }

    fn complain(&self, complaint: &str) -> End {
        if let Some(stderr) = &self.stderr {
            // Short enough for one write; nobody can do anything about it if it fails.
            let _ = write_some(stderr, format!("foster: the fake {complaint}\n").as_bytes());
        }
        End::Exit(CONFUSED)
    }
}

fn quoted(bytes: &[u8]) -> String {
    const SHOWN: usize = 200;
    let shown = &bytes[..bytes.len().min(SHOWN)];
    format!("\"{}\"{}", Visible(shown), if shown.len() < bytes.len() { "..." } else { "" })
}
