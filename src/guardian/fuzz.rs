//! What the fuzz target in `tests/fuzz` may see of the decoder. Nothing of this exists in a build that is not one for fuzzing.

use super::link::{Link, Next};
use super::protocol::{self, Frame};
use crate::sys::socket;

/// One frame, opaque.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoded(Frame);

impl Decoded {
    /// Reads the tag and the fields of one whole frame.
    pub fn from_body(body: &[u8]) -> Option<Decoded> {
        Frame::decode(body).map(Decoded)
    }

    /// The whole frame, with its length.
    pub fn encode(&self) -> Vec<u8> {
        self.0.encode()
    }

    /// Does the frame come with descriptors? Then a link refuses it without them.
    pub fn has_descriptors(&self) -> bool {
        self.0.descriptors() > 0
    }
}

/// How a stream of bytes ended: with a frame of which the rest is missing, or with one that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// So far everything was a frame; what is left, if anything, is the beginning of one.
    NotYet,
    /// What came next was refused.
    Refused,
}

/// Sends the chunks through a socket, one after the other, and hands over what a link makes of them, as soon as it can.
///
/// # Panics
///
/// When a chunk is larger than a socket's buffer.
pub fn receive(chunks: &[&[u8]], mut each: impl FnMut(Decoded)) -> End {
    let (ours, theirs) = socket::pair().expect("a socket");
    let mut link = Link::new(theirs);
    for chunk in chunks {
        let mut rest = *chunk;
        while !rest.is_empty() {
            let sent = socket::send_some(&ours, rest, &[]).expect("the other end is ours");
            rest = &rest[sent.expect("there is room")..];
        }
        loop {
            match link.next() {
                Ok(Next::Frame(frame)) => each(Decoded(frame)),
                Ok(Next::NotYet) => break,
                Ok(Next::Closed) => unreachable!("our end is open"),
                Err(_) => return End::Refused,
            }
        }
    }
    End::NotYet
}

/// One frame of each kind, as a fuzzer's first corpus.
pub fn samples() -> Vec<Vec<u8>> {
    protocol::tests::samples().iter().map(Frame::encode).collect()
}
