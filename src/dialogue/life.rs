//! What became of the helper, as far as somebody who waits for its words needs to know.

use std::fmt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::{By, Ticket};
use crate::stop::{Escapee, Survivor};
use crate::sys::OwnedFd;

/// Where news about the helper come from.
pub(crate) trait News: Send + fmt::Debug {
    /// Readable when there are news.
    fn source(&self) -> Arc<OwnedFd>;
    /// The next news, without waiting.
    fn hear(&mut self) -> Option<Heard>;
}

/// One piece of news.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The helper has ended.
    Exited(Exit),
    /// Nothing is left. These had to be ended beside the helper, and these could not be.
    Gone { escapees: Vec<Escapee>, survivors: Vec<Survivor> },
    /// There will be no more news, and that is wrong.
    Lost(String),
}

/// The helper's exit.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    pub(crate) status: ExitStatus,
    /// How long after its start.
    pub(crate) after: Duration,
    /// These lived on below its keeper.
    pub(crate) left: Vec<Escapee>,
    /// Why it was ended without the test having asked for it; empty if it was not.
    pub(crate) note: String,
}

/// The confirmed end of the helper's whole tree.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) escapees: Vec<Escapee>,
    pub(crate) survivors: Vec<Survivor>,
}

/// All that is known.
#[derive(Debug)]
pub(crate) struct Life {
    news: Option<Box<dyn News>>,
    pub(crate) exited: Option<Exit>,
    pub(crate) gone: Option<Gone>,
    pub(crate) lost: Option<String>,
    /// To be handed in when nothing more will happen, if the leak check wants to know.
    pub(crate) ticket: Option<Box<Ticket>>,
}

impl Life {
    pub(crate) fn new(news: Box<dyn News>) -> Life {
        Life { news: Some(news), exited: None, gone: None, lost: None, ticket: None }
    }

    /// Somebody begins its end.
    pub(crate) fn claim(&mut self, by: By) {
        if let Some(ticket) = &mut self.ticket {
            ticket.claim(by);
        }
    }

    /// The fixture's own directory was made only now.
    pub(crate) fn has_dir(&self, dir: &Path) {
        if let Some(ticket) = &self.ticket {
            ticket.has_dir(dir);
        }
    }

    /// Where to wait for news, while there may be any.
    pub(crate) fn source(&self) -> Option<Arc<OwnedFd>> {
        self.news.as_ref().map(|n| n.source())
    }

    /// Takes in all news that are there; true if there were any.
    pub(crate) fn hear(&mut self) -> bool {
        let mut any = false;
        while let Some(heard) = self.news.as_mut().and_then(|n| n.hear()) {
            any = true;
            match heard {
                Heard::Exited(exit) => {
                    self.exited.get_or_insert(exit);
                }
                Heard::Gone { escapees, survivors } => {
                    self.gone = Some(Gone { escapees, survivors });
                    self.news = None;
                }
                Heard::Lost(why) => {
                    self.lost = Some(why);
                    self.news = None;
                }
            }
        }
        any
    }

    /// Will nothing more happen?
    pub(crate) fn is_over(&self) -> bool {
        self.gone.is_some() || self.lost.is_some()
    }
}
