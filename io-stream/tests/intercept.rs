//! A test interferes: what readers are told of bytes that it lost, and what a writer sees.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says why by panicking")]

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use orangery_io_stream::{
    EndReason, Event, Gap, GapCause, Hub, HubOptions, Interceptor, Interference, Passage, PipeReader, Source,
    StdinWriter, StreamErrorKind, SubscribeOptions, pump_pair,
};
use tokio::io::AsyncWriteExt;

/// Answers in this order, then lets everything pass; and what it was asked.
fn scripted(answers: impl IntoIterator<Item = Interference>) -> (Interceptor, Arc<Mutex<Vec<Passage>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (answers, seen) = (Mutex::new(answers.into_iter().collect::<Vec<_>>().into_iter()), Arc::clone(&asked));
    let interceptor = Interceptor::new(move |passage| {
        seen.lock().unwrap().push(passage);
        let answer = answers.lock().unwrap().next().unwrap_or_default();
        Box::pin(std::future::ready(answer))
    });
    (interceptor, asked)
}

/// Pumps one line after the other, each in a read of its own, and returns the end and all events of an early and of a
/// late reader.
async fn pumped(interceptor: Interceptor, lines: &[&str]) -> (EndReason, Vec<Event>, Vec<Event>) {
    let (ours, mut theirs) = std::io::pipe().unwrap();
    let reader = PipeReader::from_fd(ours.into()).unwrap().intercepted(interceptor);
    let hub = Hub::new(HubOptions::default());
    let mut early = hub.subscribe(SubscribeOptions::default());
    let pump = tokio::spawn(pump_pair(Some(reader), None, hub.clone(), std::future::pending(), None));
    let mut seen = Vec::new();
    for line in lines {
        theirs.write_all(line.as_bytes()).unwrap();
        // The next line after this one has been told.
        seen.extend(early.recv().await);
    }
    drop(theirs);
    let end = pump.await.unwrap();
    while let Some(event) = early.recv().await {
        seen.push(event);
    }
    let mut late = hub.subscribe(SubscribeOptions::default());
    let mut told = Vec::new();
    while let Some(event) = late.recv().await {
        told.push(event);
    }
    (end, seen, told)
}

fn bytes(events: &[Event]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    for event in events {
        if let Event::Chunk(chunk) = event {
            found.push((chunk.offset, &*chunk.data));
        }
    }
    found
}

fn gaps(events: &[Event]) -> Vec<Gap> {
    events.iter().filter_map(|event| if let Event::Gap(gap) = event { Some(*gap) } else { None }).collect()
}

#[tokio::test]
async fn lost_bytes_are_a_gap_for_everybody_and_offsets_go_on_behind_them() {
    use Interference::{Lose, None};
    // The second line is lost at its read, the fourth before it is published.
    let (interceptor, asked) = scripted([None, None, Lose, None, None, None, Lose, None, None]);
    let (end, early, late) = pumped(interceptor, &["one", "second", "three", "4", "five"]).await;
    assert_eq!(end, EndReason::Eof);
    assert_eq!(bytes(&early), [(0, &b"one"[..]), (9, b"three"), (15, b"five")]);
    let gap = |from, to, cause| Gap { source: Source::Stdout, from, to, cause };
    assert_eq!(gaps(&early), [gap(3, 9, GapCause::Injected), gap(14, 15, GapCause::Injected)]);
    // Who comes later finds the history to begin behind the last gap, and is told so.
    assert_eq!((bytes(&late), gaps(&late)), (vec![(15, &b"five"[..])], vec![gap(0, 15, GapCause::NotRetained)]));
    let (read, publish) = (Passage::Read(Source::Stdout), Passage::Publish(Source::Stdout));
    assert_eq!(*asked.lock().unwrap(), [read, publish, read, read, publish, read, publish, read, publish]);
}

#[tokio::test]
async fn a_failed_read_ends_the_stream_as_one() {
    let (interceptor, _) = scripted([Interference::Fail(std::io::Error::from_raw_os_error(5))]);
    let (ours, mut theirs) = std::io::pipe().unwrap();
    theirs.write_all(b"x").unwrap();
    let reader = PipeReader::from_fd(ours.into()).unwrap().intercepted(interceptor);
    let hub = Hub::new(HubOptions::default());
    let end = pump_pair(Some(reader), None, hub.clone(), std::future::pending(), None).await;
    assert_eq!((end, hub.totals(Source::Stdout).bytes), (EndReason::Error(StreamErrorKind::Read), 0));
}

#[tokio::test]
async fn each_write_is_asked_for_once_and_a_lost_one_looks_written() {
    let fail = Interference::Fail(std::io::Error::from_raw_os_error(28));
    let (interceptor, asked) = scripted([Interference::Lose, fail]);
    let (mut theirs, ours) = std::io::pipe().unwrap();
    let mut stdin = StdinWriter::from_fd(ours.into()).unwrap().intercepted(interceptor);
    stdin.write_all_bytes("lost".into()).await.unwrap();
    assert_eq!(stdin.write(b"failed").await.unwrap_err().raw_os_error(), Some(28));
    // More than a pipe holds: it is waited for, and asked for once for each part that is written.
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        theirs.read_to_end(&mut all).map(|_| all)
    });
    let mut written = 0;
    let whole = vec![b'w'; 300_000];
    let mut parts = 0;
    while written < whole.len() {
        written += stdin.write(&whole[written..]).await.unwrap();
        parts += 1;
    }
    stdin.shutdown().await.unwrap();
    assert_eq!(reader.join().unwrap().unwrap(), whole);
    assert_eq!(*asked.lock().unwrap(), vec![Passage::Write; parts + 2]);
}

#[tokio::test]
async fn what_is_lent_is_still_intercepted_when_it_comes_back() {
    let (interceptor, asked) = scripted([]);
    let (sender, back) = std::sync::mpsc::sync_channel(1);
    let (_theirs, ours) = std::io::pipe().unwrap();
    let writer = StdinWriter::from_fd(ours.into()).unwrap().intercepted(interceptor);
    drop(writer.lent(move |writer| drop(sender.send(writer))));
    back.recv().unwrap().write_all_bytes("x".into()).await.unwrap();
    assert_eq!(asked.lock().unwrap().len(), 1);
}
