//! Records as files: whole or not at all, and known for what they are.
//!
//! Two lines of JSON: which version it is and the check of the second, which is the record. A file that somebody else has
//! written, that was cut off, or in which a byte is another one is told from ours, and nothing is guessed of it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize};

use crate::faults::Step;

/// What all records are written as; another number is another version's.
pub(super) const VERSION: u32 = 1;
/// No record of ours is longer.
const MOST: u64 = 64 << 20;
/// The first line and the ends of both are no longer than this.
const AROUND: u64 = 128;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    orangery: u32,
    check: String,
}

/// Why a record is none.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// It is not there.
    Missing,
    /// It is no record of this version; in words.
    Unknown(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is not there"),
            Self::Unknown(why) => f.write_str(why),
        }
    }
}

fn unknown(why: impl Into<String>) -> Unreadable {
    Unreadable::Unknown(why.into())
}

/// FNV-1a: any one byte that is another one makes another number.
fn check(bytes: &[u8]) -> String {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// As it stands in the file.
///
/// # Errors
/// A path that is no UTF-8; more than would be read again.
pub(super) fn encode<T: Serialize>(record: &T) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_vec(record)?;
    if body.len() as u64 > MOST - AROUND {
        let why = format!("{} bytes are too long for a record: {} at most", body.len(), MOST - AROUND);
        return Err(serde_json::Error::custom(why));
    }
    Ok(with_head(&body))
}

/// What stands in it, as a file.
pub(super) fn with_head(body: &[u8]) -> Vec<u8> {
    let head = Head { orangery: VERSION, check: check(body) };
    // Of a number and a text there is always one.
    let mut bytes = serde_json::to_vec(&head).unwrap_or_default();
    bytes.push(b'\n');
    bytes.extend(body);
    bytes.push(b'\n');
    bytes
}

/// What stands in it.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    let torn = || unknown("it is cut off, or no record");
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(torn)?;
    let (head, body) = bytes.split_at(end);
    let head: Head = serde_json::from_slice(head).map_err(|_| torn())?;
    if head.orangery != VERSION {
        return Err(unknown(format!("it has the version {}; this program knows {VERSION}", head.orangery)));
    }
    let body = body.strip_prefix(b"\n").and_then(|body| body.strip_suffix(b"\n")).ok_or_else(torn)?;
    if check(body) != head.check {
        return Err(unknown("it is damaged: its check is another one"));
    }
    serde_json::from_slice(body).map_err(|error| unknown(format!("it says something else: {error}")))
}

/// Write it in the place of what is there, from one moment to the next; `sync`: so that a crash of the machine finds one of
/// the two as well.
pub(super) fn write<T: Serialize>(path: &Path, record: &T, sync: bool, passed: impl Fn(Step)) -> io::Result<()> {
    replace(path, &encode(record)?, sync, passed)
}

/// See [`write`].
pub(super) fn replace(path: &Path, bytes: &[u8], sync: bool, passed: impl Fn(Step)) -> io::Result<()> {
    let draft = path.with_extension("new");
    let made =
        OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft).and_then(|mut file| {
            file.write_all(bytes)?;
            if sync {
                file.sync_data()?;
            }
            passed(Step::Drafted);
            fs::rename(&draft, path)
        });
    if made.is_err() {
        // On a full disk, say.
        let _ = fs::remove_file(&draft);
    }
    made?;
    passed(Step::Placed);
    match path.parent() {
        Some(dir) if sync => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// Read it.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Unreadable> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => unknown(format!("it cannot be read: {error}")),
    };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.len() > MOST {
        return Err(unknown("it is no file, or too long for a record"));
    }
    // One read, and one that finds the end.
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
    file.take(MOST).read_to_end(&mut bytes).map_err(failed)?;
    decode(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        name: String,
        numbers: Vec<u64>,
    }

    fn example() -> Example {
        Example { name: "a\nb".into(), numbers: vec![0, u64::MAX] }
    }

    #[test]
    fn it_replaces_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        assert!(matches!(read::<Example>(&path), Err(Unreadable::Missing)));
        for sync in [false, true] {
            write(&path, &example(), sync, |_| ()).unwrap();
            assert_eq!(read::<Example>(&path).unwrap(), example());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft stays");
        write(&dir.path().join("no/such"), &example(), false, |_| ()).unwrap_err();
    }

    #[test]
    fn what_would_not_be_read_again_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        write(&path, &example(), false, |_| ()).unwrap();
        let long = "x".repeat(usize::try_from(MOST).unwrap());
        let error = write(&path, &long, false, |_| ()).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
        assert_eq!(read::<Example>(&path).unwrap(), example(), "what was there stays");
        assert!((with_head(b"").len() as u64) < AROUND);
    }

    #[test]
    fn what_is_no_file_is_no_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record.json");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(read::<Example>(&path), Err(Unreadable::Unknown(_))));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(read::<Example>(&path), Err(Unreadable::Unknown(_))));
    }

    #[test]
    fn another_version_is_named() {
        let text = String::from_utf8(encode(&example()).unwrap()).unwrap();
        let other = text.replace("\"orangery\":1", "\"orangery\":2");
        let error = decode::<Example>(other.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    proptest! {
        #[test]
        fn a_record_that_is_cut_off_is_none(cut in 0..200_usize) {
            let bytes = encode(&example()).unwrap();
            prop_assume!(cut < bytes.len());
            prop_assert!(decode::<Example>(&bytes[..cut]).is_err());
        }

        #[test]
        fn a_record_with_another_byte_is_none(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&example()).unwrap();
            let at = at.index(bytes.len());
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            // White space between the words of the head says the same.
            prop_assert!(decode::<Example>(&bytes).is_err_and(|error| !matches!(error, Unreadable::Missing)));
        }

        #[test]
        fn any_bytes_are_read_without_a_guess(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(decode::<Example>(&bytes).is_err());
        }
    }
}
