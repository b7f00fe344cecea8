//! The output limit of a hub: exact to the byte, told at once, counted to the end, whoever reads and whoever does not.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use futures_util::FutureExt;
use orangery_io_stream::{
    Chunk, EndInfo, Event, From, Gap, GapCause, Hub, HubOptions, Overflow, Source, Sources, SubscribeOptions,
    Subscriber,
};

use Source::{Stderr, Stdout};

fn hub(limit: u64) -> Hub {
    Hub::new(HubOptions { output_limit: Some(limit), ..HubOptions::default() })
}

async fn write(hub: &Hub, source: Source, bytes: &'static str) {
    assert!(hub.publish(source, bytes.into()).await);
}

fn next(reader: &mut Subscriber) -> Option<Event> {
    reader.recv().now_or_never().unwrap()
}

fn text(event: Option<Event>) -> String {
    let Some(Event::Chunk(Chunk { data, .. })) = event else { panic!("no chunk but {event:?}") };
    String::from_utf8(data.to_vec()).unwrap()
}

fn behind(source: Source, from: u64, to: u64) -> Option<Event> {
    Some(Event::Gap(Gap { source, from, to, cause: GapCause::OutputLimit }))
}

#[tokio::test]
async fn both_sources_share_it_and_readers_hear_of_it_at_once() {
    let hub = hub(10);
    let mut reader = hub.subscribe(SubscribeOptions::default());
    write(&hub, Stdout, "12345").await;
    write(&hub, Stderr, "1234").await;
    assert!(!hub.is_over_limit() && hub.wait_over_limit().now_or_never().is_none());
    let over = tokio::spawn({
        let hub = hub.clone();
        async move { hub.wait_over_limit().await }
    });
    tokio::task::yield_now().await;
    write(&hub, Stdout, "678").await;
    over.await.unwrap();
    assert_eq!([text(next(&mut reader)), text(next(&mut reader)), text(next(&mut reader))], ["12345", "1234", "6"]);
    assert_eq!(next(&mut reader), behind(Stdout, 6, 8));
    // Not told byte by byte, but with the end.
    write(&hub, Stderr, "5").await;
    write(&hub, Stdout, "9").await;
    write(&hub, Stdout, "0").await;
    hub.close(EndInfo::default());
    assert_eq!(next(&mut reader), behind(Stderr, 4, 5));
    assert_eq!(next(&mut reader), behind(Stdout, 8, 10));
    let Some(Event::End(end)) = next(&mut reader) else { panic!("no end") };
    assert_eq!((end.stdout.bytes, end.stdout.over_limit, end.stdout.dropped), (10, 4, 0));
    assert_eq!((end.stderr.bytes, end.stderr.over_limit), (5, 1));
    assert_eq!(hub.metrics().over_limit, 5);
}

#[tokio::test]
async fn a_waiting_reader_is_woken_once_for_each_source() {
    let hub = hub(0);
    let mut reader = counted(&hub);
    for (source, woken) in [(Stdout, true), (Stdout, false), (Stderr, true), (Stderr, false)] {
        reader.wait();
        write(&hub, source, "x").await;
        assert_eq!(reader.was_woken(), woken, "{source}");
    }
}

/// A reader whose wake-ups are counted.
struct Counted {
    reader: Subscriber,
    wakes: std::sync::Arc<Wakes>,
}

#[derive(Default)]
struct Wakes(std::sync::atomic::AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

fn counted(hub: &Hub) -> Counted {
    Counted { reader: hub.subscribe(SubscribeOptions::default()), wakes: std::sync::Arc::default() }
}

impl Counted {
    /// Reads what there is, and waits for more.
    fn wait(&mut self) {
        let waker = std::sync::Arc::clone(&self.wakes).into();
        let mut context = std::task::Context::from_waker(&waker);
        while std::pin::pin!(self.reader.recv()).as_mut().poll(&mut context).is_ready() {}
    }

    fn was_woken(&self) -> bool {
        self.wakes.0.swap(0, std::sync::atomic::Ordering::SeqCst) > 0
    }
}

#[tokio::test]
async fn who_comes_later_gets_the_history_and_what_is_behind_it() {
    let hub = hub(6);
    write(&hub, Stdout, "one\ntwo\n").await;
    let sources = Sources::Stdout;
    let cursor = hub.cursor();
    for (from, want, gap) in [
        (From::Start, "one\ntw", Some((6, 8))),
        (From::TailLines(1), "tw", Some((6, 8))),
        (From::TailBytes(4), "tw", Some((6, 8))),
        (From::TailBytes(1), "", Some((7, 8))),
        (From::Seq(1), "", Some((6, 8))),
        (From::Now, "", None),
    ] {
        let mut reader = hub.subscribe(SubscribeOptions { sources, from, ..SubscribeOptions::default() });
        if !want.is_empty() {
            assert_eq!(text(next(&mut reader)), want, "{from:?}");
        }
        if let Some((from, to)) = gap {
            assert_eq!(next(&mut reader), behind(Stdout, from, to));
        }
        assert!(reader.recv().now_or_never().is_none(), "{from:?}");
    }
    let mut again = hub.resume(cursor, SubscribeOptions::default()).unwrap();
    assert!(again.recv().now_or_never().is_none());
    let captured = hub.subscribe(SubscribeOptions::default());
    hub.close(EndInfo::default());
    let captured = captured.collect(4).await;
    assert_eq!(
        (&captured.head[..], captured.omitted, &captured.tail[..], captured.over_limit),
        (&b"on"[..], 2, &b"tw"[..], 2)
    );
}

#[tokio::test]
async fn a_blocking_reader_holds_up_nothing_that_it_will_not_get() {
    let hub = hub(4);
    let options =
        SubscribeOptions { overflow: Overflow::block(Duration::MAX), queue_bytes: 4, ..SubscribeOptions::default() };
    let mut reader = hub.subscribe(options);
    write(&hub, Stdout, "1234").await;
    assert_eq!(hub.publish(Stdout, "5678".into()).now_or_never(), Some(true));
    assert_eq!(text(next(&mut reader)), "1234");
    assert_eq!(next(&mut reader), behind(Stdout, 4, 8));
}
