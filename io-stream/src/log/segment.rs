//! The files of a log's directory by name: which segments there are, and where each begins.
//!
//! A segment is named by its source and by the stream offset of its first byte, so that offsets stay
//! valid however many segments came before or were removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::files;
use crate::chunk::{PerSource, Source};

/// What the name of one ends with that has no name yet.
const HELD: &str = "held";

/// Digits of an offset in a name: those of the largest 64-bit number, so that names sort.
const DIGITS: usize = 20;

/// No stream gets so far; what claims to is no file of ours, and sums of offsets never overflow.
pub(crate) const MAX_OFFSET: u64 = 1 << 62;

/// How a segment's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// As they are.
    Plain,
    /// Compressed with zstd, closed for ever.
    Zstd,
}

/// One segment that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) source: Source,
    /// The stream offset of its first byte.
    pub(crate) base: u64,
    pub(crate) form: Form,
}

impl Segment {
    pub(crate) const fn plain(source: Source, base: u64) -> Self {
        Self { source, base, form: Form::Plain }
    }

    /// Its data file in `dir`.
    pub(crate) fn data(&self, dir: &Path) -> PathBuf {
        let ending = match self.form {
            Form::Plain => "log",
            Form::Zstd => "log.zst",
        };
        dir.join(format!("{}.{:0DIGITS$}.{ending}", self.source, self.base))
    }

    /// Where it is compressed to, until it is whole.
    pub(crate) fn draft(&self, dir: &Path) -> PathBuf {
        Self { form: Form::Zstd, ..*self }.data(dir).with_added_extension("new")
    }

    /// Where it is written until its holder knows it.
    pub(crate) fn held(&self, dir: &Path) -> PathBuf {
        self.data(dir).with_added_extension(HELD)
    }

    /// Its index in `dir`, whatever the form.
    pub(crate) fn index(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.{:0DIGITS$}.idx", self.source, self.base))
    }

    /// The segment whose data file is called so.
    fn parse(name: &str) -> Option<Self> {
        let (source, rest) = name.split_once('.')?;
        let source = Source::ALL.into_iter().find(|each| each.as_str() == source)?;
        let (base, ending) = rest.split_once('.')?;
        let form = match ending {
            "log" => Form::Plain,
            "log.zst" => Form::Zstd,
            _ => return None,
        };
        let digits = base.len() == DIGITS && base.bytes().all(|byte| byte.is_ascii_digit());
        let base = base.parse().ok().filter(|base| digits && *base <= MAX_OFFSET)?;
        Some(Self { source, base, form })
    }
}

/// What is in the directory of a log.
#[derive(Debug)]
pub(crate) struct Listing {
    /// By their offset; of one in both forms the plain one.
    pub(crate) segments: PerSource<Vec<Segment>>,
    /// Those that have no name yet.
    pub(crate) held: Vec<Segment>,
}

/// All of it, at once.
pub(crate) fn look(dir: &Path) -> io::Result<Listing> {
    let mut found = Listing { segments: PerSource::from_fn(|_| Vec::new()), held: Vec::new() };
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        found.held.extend(name.strip_suffix(HELD).and_then(|name| Segment::parse(name.strip_suffix('.')?)));
        // A link or a pipe with such a name is none, and one that is gone meanwhile is not there.
        let segment = Segment::parse(name).filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file()));
        if let Some(segment) = segment {
            found.segments[segment.source].push(segment);
        }
    }
    for source in Source::ALL {
        let segments = &mut found.segments[source];
        segments.sort_unstable_by_key(|segment| (segment.base, segment.form));
        segments.dedup_by_key(|segment| segment.base);
    }
    Ok(found)
}

/// The directory, locked until it is closed: nobody puts a compressed segment in the place of a plain one, or counts on what it
/// has seen of both.
pub(crate) fn alone(dir: &Path) -> io::Result<fs::File> {
    let place = fs::File::open(dir)?;
    rustix::fs::flock(&place, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(place)
}

/// How many bytes a compressed one stands for.
#[cfg(feature = "zstd")]
pub(crate) fn compressed_len(dir: &Path, segment: &Segment) -> io::Result<u64> {
    Ok(super::compress::Unpacked::new(files::read(&segment.data(dir))?)?.len())
}

/// How many bytes a compressed one stands for: that cannot be told here.
#[cfg(not(feature = "zstd"))]
pub(crate) fn compressed_len(_: &Path, _: &Segment) -> io::Result<u64> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The segments of `source` in `dir`.
pub(crate) fn list(dir: &Path, source: Source) -> io::Result<Vec<Segment>> {
    Ok(std::mem::take(&mut look(dir)?.segments[source]))
}

/// The same, with each that was there all the while: one that is compressed while the directory is read may be seen under
/// neither of its names, and is there for good when it is read once more. One that was removed meanwhile may be among them.
pub(crate) fn list_all(dir: &Path, source: Source) -> io::Result<Vec<Segment>> {
    list_again(dir, source, list(dir, source)?)
}

/// The second half of it, for who has `seen` some already.
pub(crate) fn list_again(dir: &Path, source: Source, seen: Vec<Segment>) -> io::Result<Vec<Segment>> {
    let mut all = list(dir, source)?;
    all.extend(seen);
    // Of one that was seen twice, as it was seen last.
    all.sort_by_key(|segment| segment.base);
    all.dedup_by_key(|segment| segment.base);
    Ok(all)
}

/// Removes a segment, in both its forms and with what a compression has begun; that somebody else did so before is no error.
pub(crate) fn remove(dir: &Path, segment: &Segment) -> io::Result<()> {
    for form in [Form::Plain, Form::Zstd] {
        files::remove(&Segment { form, ..*segment }.data(dir))?;
    }
    files::remove(&segment.draft(dir))?;
    files::remove(&segment.index(dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_made() {
        let dir = Path::new("/d");
        for source in Source::ALL {
            for (base, form) in [(0, Form::Plain), (MAX_OFFSET, Form::Zstd), (12_345, Form::Plain)] {
                let segment = Segment { source, base, form };
                let path = segment.data(dir);
                assert_eq!(Segment::parse(path.file_name().unwrap().to_str().unwrap()), Some(segment));
            }
        }
        assert_eq!(Segment::plain(Source::Stdout, 7).index(dir).to_str(), Some("/d/stdout.00000000000000000007.idx"));
    }

    /// As if the compressor had come to it while the directory was read.
    #[test]
    fn one_that_was_seen_under_neither_name_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let [first, hidden, last] = [0, 10, 20].map(|base| Segment::plain(Source::Stdout, base));
        let packed = Segment { form: Form::Zstd, ..hidden };
        for segment in [first, packed, last] {
            fs::write(segment.data(dir.path()), "").unwrap();
        }
        let again = |seen| list_again(dir.path(), Source::Stdout, seen).unwrap();
        assert_eq!(again(vec![first, last]), [first, packed, last]);
        assert_eq!(again(vec![first, hidden, last]), [first, packed, last], "as it is now");
        fs::remove_file(last.data(dir.path())).unwrap();
        assert_eq!(again(vec![first, last]), [first, packed, last], "what the second look has missed");
        assert_eq!(list_all(dir.path(), Source::Stdout).unwrap(), [first, packed]);
    }

    #[test]
    fn other_names_are_nobodys() {
        for name in [
            "log.state",
            "stdout.log",
            "stdout.7.log",
            "stdin.00000000000000000007.log",
            "stdout.00000000000000000007.idx",
            "stdout.00000000000000000007.log.new",
            "stdout.+0000000000000000007.log",
            "stdout.99999999999999999999.log",
            "stdout.18446744073709551615.log",
        ] {
            assert_eq!(Segment::parse(name), None, "{name}");
        }
    }
}
