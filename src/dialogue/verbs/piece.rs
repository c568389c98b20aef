//! A stream piece by piece, each a line with its ending or without it, so that every byte is accounted for.
//!
//! Other verbs let a line ending go with what ended right before it. Here a line that goes on after a prompt is a line of its
//! own, even if it is empty.

use super::{Unmet, Verb, is_last, stretch};
use crate::dialogue::conversation::{Channel, State};
use crate::dialogue::search::Captures;
use crate::dialogue::template::Template;
use crate::transcript::Visible;

/// What was found instead of what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Other {
    /// Without its ending.
    pub(crate) text: Vec<u8>,
    /// It has one.
    pub(crate) ended: bool,
}

/// What a stream has to bring.
#[derive(Debug, Clone)]
pub(crate) enum Piece {
    /// This line.
    Line(Template),
    /// This, without a line ending.
    Tail(Template),
    /// Its end.
    End,
}

/// The next piece, or the next one that fits.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) piece: Piece,
    /// Complete lines that do not fit are passed over.
    pub(crate) skip: bool,
}

/// Does it fit all of the line? A template without a placeholder is text, and an empty one is an empty line.
pub(crate) fn fits(template: &Template, line: &[u8]) -> Option<Captures> {
    match template.as_text() {
        Some(text) => (text == line).then(Captures::new),
        None => template.on_line(line),
    }
}

impl Next {
    /// Is this what is expected?
    fn judge(&self, text: &[u8], ended: bool) -> Option<Captures> {
        match &self.piece {
            Piece::Line(template) if ended => fits(template, text),
            Piece::Tail(template) if !ended => fits(template, text),
            _ => None,
        }
    }
}

impl Verb for Next {
    type Answer = Result<Captures, Other>;

    fn name(&self) -> &'static str {
        match self.piece {
            Piece::Line(_) => "expect line",
            Piece::Tail(_) => "expect prompt",
            Piece::End => "expect",
        }
    }
    fn object(&self, channel: Channel) -> String {
        match &self.piece {
            Piece::Line(template) | Piece::Tail(template) => Visible(template.source.as_bytes()).to_string(),
            Piece::End => format!("end of {}", channel.name()),
        }
    }
    fn details(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    fn look(&mut self, state: &mut State, channel: Channel) -> Option<Result<Self::Answer, Unmet>> {
        let last = is_last(state, channel);
        let stream = state.stream(channel);
        stream.mid_line = false;
        loop {
            let stretch = stretch(stream, last);
            let Some(line) = stretch.line(0, 0) else {
                let met = match &self.piece {
                    Piece::End => last.then(Captures::new),
                    _ => Some(stretch.bytes).filter(|b| !b.is_empty()).and_then(|tail| self.judge(tail, false)),
                };
                if met.is_some() {
                    stream.window.consume(stream.window.unread().len());
                }
                return met.map(|captures| Ok(Ok(captures)));
            };
            let text = stretch.text(&line.text);
            let judged = self.judge(text, !line.partial);
            let passed = self.skip && (!line.partial || matches!(self.piece, Piece::End));
            if judged.is_none() && !passed {
                return Some(Ok(Err(Other { text: text.to_vec(), ended: !line.partial })));
            }
            stream.window.consume(line.end);
            if let Some(captures) = judged {
                return Some(Ok(Ok(captures)));
            }
        }
    }
    fn without_more(&mut self, state: &mut State, channel: Channel) -> Option<Result<Self::Answer, Unmet>> {
        // What stands there without an ending, and does not fit: that it is there says more than that time is up.
        let unread = state.stream_ref(channel).window.unread();
        let wrong = !unread.is_empty() && !self.skip;
        wrong.then(|| Ok(Err(Other { text: unread.to_vec(), ended: false })))
    }
    fn is_quiet(&self) -> bool {
        true
    }
}
