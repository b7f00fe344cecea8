//! Loom models of the hand-over: every interleaving of a publisher and a reader.
//!
//! `RUSTFLAGS="--cfg orangery_loom" cargo test -p orangery-io-stream --lib --release --target-dir target/loom model`

use loom::future::block_on;
use loom::thread;

use super::*;
use crate::chunk::Source::Stdout;
use crate::chunk::testing::chunk;
use crate::event::EndReason;
use crate::fate::Fate;
use crate::overflow::{Bound, Overflow};
use crate::queue::Rules;

fn slot(overflow: Overflow, queue_bytes: usize) -> Arc<Slot> {
    let rules = Rules { bound: Bound::of_bytes(queue_bytes), overflow, rate: None, spill: None };
    Arc::new(Slot::new(0, Sources::Both, Arc::default(), Queue::new(rules, Vec::new(), Vec::new())))
}

fn end(slot: &Slot) {
    wake(slot.end(last()));
}

fn last() -> End {
    End::new(PerSource::default(), EndReason::Eof, Fate::Unknown)
}

fn wake(waker: Option<Waker>) {
    waker.into_iter().for_each(Waker::wake);
}

/// Reads to the end; what was received and missed, checked to be without a hole.
async fn read(slot: &Slot, bytes: bool) -> (u64, u64) {
    let (mut received, mut missed) = (0, 0);
    loop {
        match std::future::poll_fn(|cx| slot.poll(cx, bytes)).await {
            Some(Event::Chunk(chunk)) => {
                assert_eq!(chunk.offset, received + missed);
                received += chunk.len();
            }
            Some(Event::Gap(gap)) => {
                assert_eq!(gap.from, received + missed);
                missed += gap.bytes();
            }
            Some(Event::End(_)) => return (received, missed),
            other => panic!("unexpected {other:?}"),
        }
    }
}

#[test]
fn a_reader_is_always_woken_and_nothing_is_lost_in_silence() {
    loom::model(|| {
        let slot = slot(Overflow::DropOldest, 4);
        let publisher = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                for at in 0..2 {
                    wake(slot.deliver(chunk(Stdout, at, at * 4, 4)).waker);
                }
                end(&slot);
            })
        };
        let (received, missed) = block_on(read(&slot, false));
        publisher.join().unwrap();
        assert_eq!((received + missed, missed), (8, slot.metrics().dropped));
    });
}

#[test]
fn a_reader_of_bytes_has_the_end_with_the_last_byte_and_once() {
    loom::model(|| {
        let slot = slot(Overflow::DropOldest, 4);
        let publisher = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                wake(slot.deliver(chunk(Stdout, 0, 0, 4)).waker);
                wake(slot.end_bytes(last()));
            })
        };
        // The last event never comes: the process lives on.
        assert_eq!(block_on(read(&slot, true)), (4, 0));
        publisher.join().unwrap();
        end(&slot);
        assert_eq!(block_on(std::future::poll_fn(|cx| slot.poll(cx, true))), None);
    });
}

/// The wait of `Hub::publish`, without its timer: register, look, wait.
async fn room(slot: &Slot) {
    loop {
        let mut space = std::pin::pin!(slot.shared.space.notified());
        space.as_mut().enable();
        if slot.stall(4, Duration::ZERO).is_none() {
            return;
        }
        space.await;
    }
}

#[test]
fn a_blocked_publisher_is_always_woken() {
    loom::model(|| {
        let slot = slot(Overflow::block(Duration::MAX), 4);
        let publisher = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                for at in 0..2 {
                    block_on(room(&slot));
                    wake(slot.deliver(chunk(Stdout, at, at * 4, 4)).waker);
                }
                end(&slot);
            })
        };
        assert_eq!(block_on(read(&slot, false)), (8, 0));
        publisher.join().unwrap();
    });
}
