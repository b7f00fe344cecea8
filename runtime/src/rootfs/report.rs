//! What was unpacked, and what was not.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most of what was left out that is listed; all of it is counted.
const LISTED: usize = 1000;

/// A root file system that was made of archives or directories.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnpackReport {
    /// Entries that were unpacked, of all layers, those that a later one has replaced included.
    pub entries: u64,
    /// Bytes of content that were written.
    pub bytes: u64,
    /// What a layer has taken away of those below it.
    pub whiteouts: u64,
    /// Entries whose owner or group could not be kept: they belong to the container's root.
    pub owners_lost: u64,
    /// Why there was one id alone for all of them; `None` where only ids were missing that no range has.
    pub why_owners_lost: Option<String>,
    /// What was left out, the first thousand.
    pub skipped: Vec<LeftOut>,
    /// How much was left out.
    pub skipped_count: u64,
}

/// Something of an entry that was not unpacked, or an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// The entry; with what stands for bytes that are no UTF-8.
    pub entry: String,
    /// Why.
    pub reason: WhyLeftOut,
    /// Which extended attribute, where it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attribute: Option<String>,
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum WhyLeftOut {
    /// A device: a container has those of its `/dev`.
    Device,
    /// A socket: nobody listens at it.
    Socket,
    /// An extended attribute that only the machine's root may set, or that means something to a file system.
    Attribute,
    /// An extended attribute that this file system does not have.
    AttributeUnsupported,
    /// A file of a directory that this user may not read.
    Unreadable,
    /// A directory on which another file system is mounted.
    OtherFileSystem,
}

impl WhyLeftOut {
    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Device => "a device; containers have those of their /dev",
            Self::Socket => "a socket that nobody listens at",
            Self::Attribute => "an extended attribute that only root or a file system may set",
            Self::AttributeUnsupported => "an extended attribute that this file system does not have",
            Self::Unreadable => "this user may not read it",
            Self::OtherFileSystem => "another file system is mounted there",
        }
    }
}

impl UnpackReport {
    pub(super) fn skip(&mut self, entry: &[u8], reason: WhyLeftOut, attribute: Option<&[u8]>) {
        self.skipped_count += 1;
        if self.skipped.len() < LISTED {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.skipped.push(LeftOut { entry: text(entry), reason, attribute: attribute.map(text) });
        }
    }
}

/// A root file system on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// Its `/`. The directory that it lies in is closed to everybody else: what is set-user-id in an archive would be so for
    /// the users of this machine too.
    pub rootfs: PathBuf,
    /// What was unpacked.
    pub report: UnpackReport,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// All of it is there; said last, and not where it fails.
    pub done: bool,
}
