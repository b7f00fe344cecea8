//! What a hand is asked: one operation on files, at the descriptor that comes with it. The answer is a
//! [`Tell::Sent`](super::Tell::Sent) with the descriptor of what was opened, or an errno.
//!
//! ```text
//! 0      128      136
//! | head | purpose | name, NUL | second name, NUL |
//! ```

use super::{Message, Purpose, body_at, list_end, string};

/// A name, its NUL included, has at most so many bytes: PATH_MAX.
pub const NAME: usize = 4096;
/// No errand is larger.
pub const ERRAND: usize = super::WITH_ONE + 2 * NAME;

/// What is to be done. The numbers are the encoding, in the head's `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Deed {
    /// `openat2(place, first, {flags, mode, resolve})`.
    Open = 1,
    /// Open the very object of a descriptor once more, with these flags.
    Reopen = 2,
    /// `mkdirat(place, first, mode)`.
    MakeDirectory = 3,
    /// `symlinkat(second, place, first)`.
    Link = 4,
    /// `renameat2(place, first, place, second, flags)`.
    Rename = 5,
    /// `unlinkat(place, first, flags)`.
    Remove = 6,
    /// `fchmod(place, mode)`.
    ChangeMode = 7,
}

impl Deed {
    /// The deed with this number.
    #[must_use]
    pub fn from_u16(number: u16) -> Option<Deed> {
        Some(match number {
            1 => Deed::Open,
            2 => Deed::Reopen,
            3 => Deed::MakeDirectory,
            4 => Deed::Link,
            5 => Deed::Rename,
            6 => Deed::Remove,
            7 => Deed::ChangeMode,
            _ => return None,
        })
    }

    /// So many names come with it.
    #[must_use]
    pub fn names(self) -> u32 {
        match self {
            Deed::Reopen | Deed::ChangeMode => 0,
            Deed::Open | Deed::MakeDirectory | Deed::Remove => 1,
            Deed::Link | Deed::Rename => 2,
        }
    }
}

/// One errand.
#[derive(Clone, Copy, Debug)]
pub struct Errand<'a> {
    /// What is to be done.
    pub deed: Deed,
    /// Of its system call.
    pub flags: u32,
    /// Permission bits.
    pub mode: u32,
    /// Of `openat2`.
    pub resolve: u64,
    /// What has come as names: each is followed by its NUL.
    pub names: [&'a [u8]; 2],
}

impl Errand<'_> {
    /// The head that it travels with; its one descriptor is a [`Purpose::Place`].
    #[must_use]
    pub fn head(&self) -> Message {
        let x = u64::from(self.flags) | u64::from(self.mode) << 32;
        Message { kind: self.deed as u16, x, y: self.resolve, ..Message::default() }
    }
}

/// What has come, with so many descriptors; `None` where it is not one whole errand with its one descriptor.
#[must_use]
pub fn errand(bytes: &[u8], received: usize) -> Option<Errand<'_>> {
    let message = Message::decode(bytes)?;
    let deed = Deed::from_u16(message.kind)?;
    if received != 1 || super::listed(bytes, message.fds)? != [Purpose::Place as u8] {
        return None;
    }
    let body = bytes.get(body_at(message.fds)..)?;
    if list_end(body, 0, deed.names())? as usize != body.len() {
        return None;
    }
    let mut names: [&[u8]; 2] = [&[]; 2];
    let mut at = 0;
    for name in names.iter_mut().take(deed.names() as usize) {
        *name = string(body, at).filter(|name| name.len() < NAME)?;
        at = list_end(body, at, 1)?;
    }
    let (flags, mode) = (message.x as u32, (message.x >> 32) as u32);
    Some(Errand { deed, flags, mode, resolve: message.y, names })
}
