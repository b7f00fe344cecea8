//! The queue alone: each policy, what it keeps, and the gaps it leaves.

use super::*;
use crate::chunk::Source::{self, Stderr, Stdout};
use crate::chunk::testing::chunk;
use crate::overflow::Fallback;
use crate::rate::RateLimit;

fn rules(bytes: usize, overflow: Overflow) -> Rules {
    Rules { bound: Bound::of_bytes(bytes), overflow, rate: None, spill: None }
}

fn queue(bytes: usize, overflow: Overflow) -> Queue {
    Queue::new(rules(bytes, overflow), Vec::new(), Vec::new())
}

fn pop(queue: &mut Queue) -> Option<Item> {
    let mut lost = PerSource::default();
    let item = queue.pop(&mut lost);
    assert_eq!(lost, PerSource::default());
    item
}

fn gap(source: Source, from: u64, to: u64, cause: GapCause) -> Item {
    Item::Gap(Gap { source, from, to, cause })
}

fn drain(queue: &mut Queue) -> Vec<Item> {
    std::iter::from_fn(|| pop(queue)).collect()
}

#[test]
fn dropping_the_oldest_leaves_one_gap_for_each_source() {
    let mut queue = queue(10, Overflow::DropOldest);
    queue.offer(chunk(Stdout, 0, 0, 4));
    queue.offer(chunk(Stderr, 1, 0, 4));
    queue.offer(chunk(Stdout, 2, 4, 4));
    let offered = queue.offer(chunk(Stdout, 3, 8, 10));
    assert_eq!(offered.lost[Stdout], 4);
    assert_eq!(queue.lost(), 12);
    assert_eq!(
        drain(&mut queue),
        [
            gap(Stdout, 0, 8, GapCause::DroppedOldest),
            gap(Stderr, 0, 4, GapCause::DroppedOldest),
            Item::Chunk(chunk(Stdout, 3, 8, 10)),
        ]
    );
}

#[test]
fn dropping_the_newest_puts_the_gap_behind_what_was_kept() {
    let mut queue = queue(4, Overflow::DropNewest);
    for (seq, source, offset) in [(0, Stdout, 0), (1, Stdout, 4), (2, Stderr, 0), (3, Stdout, 8)] {
        queue.offer(chunk(source, seq, offset, 4));
    }
    assert_eq!(pop(&mut queue), Some(Item::Chunk(chunk(Stdout, 0, 0, 4))));
    queue.offer(chunk(Stdout, 4, 12, 4));
    assert_eq!(
        drain(&mut queue),
        [
            gap(Stdout, 4, 12, GapCause::DroppedNewest),
            gap(Stderr, 0, 4, GapCause::DroppedNewest),
            Item::Chunk(chunk(Stdout, 4, 12, 4)),
        ]
    );
}

#[test]
fn disconnecting_keeps_what_was_queued() {
    let mut queue = queue(4, Overflow::Disconnect);
    assert!(!queue.offer(chunk(Stdout, 0, 0, 4)).disconnected);
    assert!(queue.offer(chunk(Stdout, 1, 4, 1)).disconnected);
    assert_eq!(drain(&mut queue), [Item::Chunk(chunk(Stdout, 0, 0, 4))]);
    assert_eq!(queue.lost(), 0);
}

#[test]
fn a_blocking_queue_that_gave_up_says_so() {
    let budget = Duration::from_secs(1);
    let mut queue = queue(4, Overflow::block(budget));
    queue.offer(chunk(Stdout, 0, 0, 4));
    assert_eq!(queue.verdict(4, Duration::ZERO), Verdict::Wait(budget));
    queue.stop_blocking();
    assert!(!queue.blocks());
    queue.offer(chunk(Stdout, 1, 4, 4));
    assert_eq!(pop(&mut queue), Some(gap(Stdout, 0, 4, GapCause::StallBudgetSpent)));
}

#[test]
fn one_chunk_fits_into_any_queue() {
    let mut queue = queue(0, Overflow::DropNewest);
    assert_eq!(queue.offer(chunk(Stdout, 0, 0, 100)), Offered::default());
    assert_eq!(queue.offer(chunk(Stdout, 1, 100, 1)).lost[Stdout], 1);
}

#[test]
fn history_is_replayed_whole_and_its_gap_keeps_its_cause() {
    let opening = Gap { source: Stdout, from: 0, to: 8, cause: GapCause::NotRetained };
    let history = vec![chunk(Stdout, 1, 8, 8), chunk(Stdout, 2, 16, 8)];
    let mut queue = Queue::new(rules(1, Overflow::DropOldest), vec![opening], history);
    assert_eq!(queue.lost(), 0);
    queue.offer(chunk(Stdout, 3, 24, 8));
    assert_eq!(
        drain(&mut queue),
        [
            Item::Gap(opening),
            gap(Stdout, 8, 16, GapCause::DroppedOldest),
            Item::Chunk(chunk(Stdout, 2, 16, 8)),
            Item::Chunk(chunk(Stdout, 3, 24, 8)),
        ]
    );
}

#[test]
fn a_flood_of_tiny_chunks_is_bounded_by_count() {
    let mut queue = queue(1000, Overflow::DropOldest);
    for at in 0..500 {
        queue.offer(chunk(Stdout, at, at, 1));
    }
    assert_eq!(drain(&mut queue).len(), 65);
}

#[test]
fn a_fallback_is_the_one_that_was_named() {
    let budget = Duration::from_secs(1);
    let spent = |then| {
        let mut queue = queue(4, Overflow::Block { budget, then });
        queue.offer(chunk(Stdout, 0, 0, 4));
        assert_eq!(queue.verdict(4, budget), Verdict::GiveUp);
        queue.stop_blocking();
        let offered = queue.offer(chunk(Stdout, 1, 4, 4));
        assert!(queue.gave_up());
        (drain(&mut queue), offered.disconnected)
    };
    let kept = Item::Chunk(chunk(Stdout, 0, 0, 4));
    let newest = gap(Stdout, 4, 8, GapCause::StallBudgetSpent);
    assert_eq!(spent(Fallback::DropNewest), (vec![kept.clone(), newest], false));
    assert_eq!(spent(Fallback::Disconnect), (vec![kept], true));
}

#[test]
fn suppressed_bytes_are_told_in_front_of_what_passes() {
    let rate = RateLimit { bytes_per_second: 0, burst: 4 };
    let bucket = Some(Box::new(Bucket::new(rate)));
    let mut queue = Queue::new(Rules { rate: bucket, ..rules(1000, Overflow::DropOldest) }, Vec::new(), Vec::new());
    queue.offer(chunk(Stdout, 0, 0, 4));
    for (seq, source, offset) in [(1, Stdout, 4), (2, Stderr, 0), (3, Stdout, 8)] {
        assert_eq!(queue.offer(chunk(source, seq, offset, 4)).suppressed[source], 4);
    }
    assert_eq!(drain(&mut queue), [Item::Chunk(chunk(Stdout, 0, 0, 4))]);
    assert_eq!((queue.suppressed(), queue.lost()), (12, 0));
    queue.settle();
    let suppressed = GapCause::Suppressed;
    assert_eq!(drain(&mut queue), [gap(Stdout, 4, 12, suppressed), gap(Stderr, 0, 4, suppressed)]);
}

#[test]
fn a_spilling_queue_keeps_everything_in_order() {
    let spill = Some(Box::new(Spill::new(std::env::temp_dir(), 100_000)));
    let overflow = Overflow::Spill { limit: 100_000 };
    let mut queue = Queue::new(Rules { spill, ..rules(10, overflow) }, Vec::new(), Vec::new());
    for at in 0..20 {
        assert_eq!(queue.offer(chunk(Stdout, at, at * 4, 4)), Offered::default());
    }
    assert_eq!(queue.waiting(), (8, 72));
    for at in 0..10 {
        assert_eq!(pop(&mut queue), Some(Item::Chunk(chunk(Stdout, at, at * 4, 4))));
    }
    // The memory is free again, but the order holds.
    queue.offer(chunk(Stdout, 20, 80, 4));
    let rest: Vec<_> = (10..21).map(|at| Item::Chunk(chunk(Stdout, at, at * 4, 4))).collect();
    assert_eq!(drain(&mut queue), rest);
    assert_eq!(queue.waiting(), (0, 0));
}

#[test]
fn a_full_spill_turns_the_newest_away() {
    let spill = Some(Box::new(Spill::new(std::env::temp_dir(), 250)));
    let overflow = Overflow::Spill { limit: 250 };
    let mut queue = Queue::new(Rules { spill, ..rules(4, overflow) }, Vec::new(), Vec::new());
    for at in 0..6 {
        queue.offer(chunk(Stdout, at, at * 4, 4));
    }
    assert_eq!(queue.lost(), 8);
    assert_eq!(pop(&mut queue), Some(Item::Chunk(chunk(Stdout, 0, 0, 4))));
    assert_eq!(pop(&mut queue), Some(Item::Chunk(chunk(Stdout, 1, 4, 4))));
    let rest = drain(&mut queue);
    assert_eq!(rest.len(), 3);
    assert_eq!(rest[2], gap(Stdout, 16, 24, GapCause::SpillFull));
    queue.offer(chunk(Stdout, 6, 24, 4));
    assert_eq!(drain(&mut queue), [Item::Chunk(chunk(Stdout, 6, 24, 4))]);
}

#[test]
fn losses_of_many_kinds_stay_few() {
    let bucket = Box::new(Bucket::new(RateLimit { bytes_per_second: 1_000_000, burst: 1 }));
    let rules = Rules { rate: Some(bucket), ..rules(8, Overflow::DropOldest) };
    let mut queue = Queue::new(rules, Vec::new(), Vec::new());
    for at in 0..5000 {
        // Every second chunk passes the limit and pushes another one out.
        let mut chunk = chunk(Stdout, at, at * 8, 8);
        chunk.mono = Duration::from_micros(at * 4 + 1);
        queue.offer(chunk);
    }
    queue.settle();
    let items = drain(&mut queue);
    assert!(items.len() < 100, "{}", items.len());
    let mut position = 0;
    for item in items {
        let (from, to) = match item {
            Item::Chunk(chunk) => (chunk.offset, chunk.end()),
            Item::Gap(gap) => (gap.from, gap.to),
        };
        assert_eq!(from, position);
        position = to;
    }
    assert_eq!(position, 40_000);
    assert!(queue.suppressed() > 0 && queue.lost() > 0);
}
