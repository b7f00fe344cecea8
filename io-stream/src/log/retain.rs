//! Which segments go: by their number, and by their bytes.
//!
//! Run when a segment was begun, or compressed. Readers that have a removed one open read it to its end; others are
//! told a gap.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use super::change::{Change, Watch};
use super::options::LogOptions;
use super::segment::{self, Form, Segment};
use crate::chunk::{PerSource, Source};

/// One closed segment on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Closed {
    segment: Segment,
    bytes: u64,
    changed: SystemTime,
}

/// Removes what the options do not keep. Gives how many segments went. A closed one that is to be compressed counts when it has been
/// `looked_at` for that.
pub(crate) fn apply(dir: &Path, options: &LogOptions, looked_at: Option<&[Segment]>, watch: &Watch) -> io::Result<u64> {
    let mut closed = Vec::new();
    let mut removed = 0;
    for source in Source::ALL {
        // One that was not seen would stay between those that go.
        let segments = segment::list_all(dir, source)?;
        let extra = segments.len().saturating_sub(options.keep_segments.max(1));
        let (old, kept) = segments.split_at(extra);
        for segment in old {
            segment::remove(dir, segment)?;
            watch.tell(Change::Removed);
            removed += 1;
        }
        // The last one is being written.
        let waits = |segment: &Segment| {
            segment.form == Form::Plain && looked_at.is_some_and(|looked_at| !looked_at.contains(segment))
        };
        for segment in kept.iter().take(kept.len().saturating_sub(1)).filter(|segment| !waits(segment)) {
            // Somebody else may be compressing or removing: what is gone needs no room.
            let data = match std::fs::symlink_metadata(segment.data(dir)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                data => data?,
            };
            closed.push(Closed { segment: *segment, bytes: data.len(), changed: data.modified()? });
        }
    }
    let Some(keep) = options.keep_bytes else { return Ok(removed) };
    for segment in too_much(closed, keep) {
        segment::remove(dir, &segment)?;
        watch.tell(Change::Removed);
        removed += 1;
    }
    Ok(removed)
}

/// The oldest of them (those of one source stand in order), so that what is left has at most `keep` bytes.
fn too_much(mut closed: Vec<Closed>, keep: u64) -> Vec<Segment> {
    // Of one source by offset, whatever the clock says, or whoever has touched one: there is never a hole in the middle.
    let mut newest = PerSource::new(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    for each in &mut closed {
        let newest = &mut newest[each.segment.source];
        each.changed = each.changed.max(*newest);
        *newest = each.changed;
    }
    closed.sort_by_key(|each| (each.changed, each.segment.base));
    let mut bytes: u64 = closed.iter().map(|each| each.bytes).sum();
    let mut gone = Vec::new();
    for each in closed {
        if bytes <= keep {
            break;
        }
        bytes -= each.bytes;
        gone.push(each.segment);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let at = |source, base, seconds| Closed {
            segment: Segment::plain(source, base),
            bytes: 10,
            changed: SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds),
        };
        let closed = || {
            vec![
                at(Source::Stdout, 0, 5),
                at(Source::Stdout, 10, 7),
                at(Source::Stderr, 0, 6),
                at(Source::Stderr, 9, 9),
            ]
        };
        let bases = |keep| too_much(closed(), keep).iter().map(|s| (s.source, s.base)).collect::<Vec<_>>();
        assert_eq!(bases(40), []);
        assert_eq!(bases(39), [(Source::Stdout, 0)]);
        assert_eq!(bases(15), [(Source::Stdout, 0), (Source::Stderr, 0), (Source::Stdout, 10)]);
        assert_eq!(bases(0).len(), 4);
        // The first one was compressed, say, after the second was written.
        let closed = vec![at(Source::Stdout, 0, 9), at(Source::Stdout, 10, 7), at(Source::Stderr, 0, 8)];
        let bases: Vec<_> = too_much(closed, 0).iter().map(|s| (s.source, s.base)).collect();
        assert_eq!(bases, [(Source::Stderr, 0), (Source::Stdout, 0), (Source::Stdout, 10)]);
    }
}
