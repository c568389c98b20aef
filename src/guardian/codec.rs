//! The fields of which frames are made, in bytes.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Found, LIMIT, Ladder};
use crate::sys::tree::Survivor;

/// No list of strings is longer: the vector that holds it is no longer than the longest frame. The kernel accepts fewer, since it
/// counts a pointer and a NUL for each in its 6 MiB (execve(2), fs/exec.c: bprm_stack_limits).
pub(super) const MOST_STRINGS: usize = LIMIT / size_of::<CString>();

/// Writes fields, one after the other.
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    pub(super) fn bool(&mut self, v: bool) -> &mut Self {
        self.u8(v.into())
    }
    pub(super) fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub(super) fn i32(&mut self, v: i32) -> &mut Self {
        self.u32(v as u32)
    }
    pub(super) fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    pub(super) fn bytes(&mut self, v: &[u8]) -> &mut Self {
        self.u32(u32::try_from(v.len()).unwrap_or(u32::MAX)).0.extend_from_slice(v);
        self
    }
    pub(super) fn path(&mut self, v: &Path) -> &mut Self {
        self.bytes(v.as_os_str().as_bytes())
    }
    pub(super) fn duration(&mut self, v: Duration) -> &mut Self {
        self.u64(u64::try_from(v.as_micros()).unwrap_or(u64::MAX))
    }
    pub(super) fn option<T>(&mut self, v: Option<T>, write: fn(&mut Self, T) -> &mut Self) -> &mut Self {
        match v {
            None => self.bool(false),
            Some(v) => write(self.bool(true), v),
        }
    }
    pub(super) fn ladder(&mut self, v: Ladder) -> &mut Self {
        self.option(v.eof, Self::duration).option(v.term, Self::duration)
    }
    pub(super) fn strings(&mut self, v: &[CString]) -> &mut Self {
        self.list(v, |w, s| {
            w.bytes(s.to_bytes());
        })
    }
    pub(super) fn found(&mut self, v: &[Found]) -> &mut Self {
        self.list(v, |w, f| {
            w.i32(f.pid).bytes(f.command.as_bytes());
        })
    }
    pub(super) fn survivors(&mut self, v: &[Survivor]) -> &mut Self {
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

/// Reads fields, one after the other; `None` when there is less than there should be.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    pub(super) fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }
    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }
    pub(super) fn i32(&mut self) -> Option<i32> {
        Some(self.u32()? as i32)
    }
    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.u32()? as usize;
        self.take(n)
    }
    pub(super) fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes()?).into_owned())
    }
    pub(super) fn path(&mut self) -> Option<PathBuf> {
        Some(PathBuf::from(OsString::from_vec(self.bytes()?.to_vec())))
    }
    pub(super) fn duration(&mut self) -> Option<Duration> {
        Some(Duration::from_micros(self.u64()?))
    }
    pub(super) fn option<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Option<T>> {
        Some(if self.bool()? { Some(read(self)?) } else { None })
    }
    pub(super) fn ladder(&mut self) -> Option<Ladder> {
        Some(Ladder { eof: self.option(Self::duration)?, term: self.option(Self::duration)? })
    }
    pub(super) fn strings(&mut self) -> Option<Vec<CString>> {
        self.list(4, |r| CString::new(r.bytes()?).ok())
    }
    pub(super) fn found(&mut self) -> Option<Vec<Found>> {
        self.list(8, |r| Some(Found { pid: r.i32()?, command: r.text()? }))
    }
    pub(super) fn survivors(&mut self) -> Option<Vec<Survivor>> {
        self.list(20, |r| Some(Survivor { pid: r.i32()?, start: r.u64()?, command: r.text()?, reason: r.text()? }))
    }
    /// `least` is how many bytes an item takes at the least.
    fn list<T>(&mut self, least: usize, each: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        // The count is a claim: it is believed only if the bytes for so many are there, and only so far that the vector
        // is no longer than a frame.
        let count = self.u32()? as usize;
        if count > self.0.len() / least || count > LIMIT / size_of::<T>() {
            return None;
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(each(self)?);
        }
        Some(items)
    }
}
