//! A subscription as plain bytes: what is missing is an error, never a shorter stream.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use futures_util::StreamExt;
use orangery_io_stream::{ByteStream, EndInfo, Hub, HubOptions, Overflow, Source, StreamErrorKind, SubscribeOptions};
use tokio::io::AsyncReadExt;

fn hub() -> Hub {
    Hub::new(HubOptions::default())
}

fn small(overflow: Overflow) -> SubscribeOptions {
    SubscribeOptions { overflow, queue_bytes: 4, ..SubscribeOptions::default() }
}

/// A subscriber that has lost "aaaa" and gets "bbbb", then the end by `close`.
async fn with_a_loss(close: impl FnOnce(Hub)) -> ByteStream {
    let hub = hub();
    let reader = hub.subscribe(small(Overflow::DropOldest));
    hub.publish(Source::Stdout, "aaaa".into()).await;
    hub.publish(Source::Stdout, "bbbb".into()).await;
    close(hub);
    reader.bytes()
}

fn eof(hub: Hub) {
    hub.close(EndInfo::default());
}

#[tokio::test]
async fn plain_bytes_make_a_gap_an_error() {
    let mut bytes = with_a_loss(eof).await;
    let error = bytes.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StreamErrorKind::Gap);
    assert_eq!(error.gap().unwrap().bytes(), 4);
    assert_eq!(bytes.next().await.unwrap().unwrap(), "bbbb");
    assert!(bytes.next().await.is_none());
}

#[tokio::test]
async fn lossy_bytes_skip_gaps_but_not_a_missing_end() {
    let mut bytes = with_a_loss(drop).await.lossy();
    assert_eq!(bytes.next().await.unwrap().unwrap(), "bbbb");
    let error = bytes.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), StreamErrorKind::Abandoned);
    assert!(bytes.next().await.is_none());
}

#[tokio::test]
async fn a_reader_reads_in_pieces_and_reports_gaps() {
    let mut reader = with_a_loss(eof).await.reader();
    let mut piece = [0; 3];
    let error = reader.read(&mut piece).await.unwrap_err();
    assert!(error.to_string().contains("bytes are missing"));
    assert_eq!(reader.read(&mut piece).await.unwrap(), 3);
    assert_eq!(reader.read(&mut piece).await.unwrap(), 1);
    assert_eq!(reader.read(&mut piece).await.unwrap(), 0);
    let mut text = String::new();
    let mut lossy = with_a_loss(eof).await.reader().lossy();
    lossy.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "bbbb");
}

#[tokio::test]
async fn a_disconnected_byte_reader_learns_where_to_resume() {
    let hub = hub();
    let mut bytes = hub.subscribe(small(Overflow::Disconnect)).bytes().lossy();
    hub.publish(Source::Stdout, "aaaa".into()).await;
    hub.publish(Source::Stdout, "bbbb".into()).await;
    assert_eq!(bytes.next().await.unwrap().unwrap(), "aaaa");
    assert_eq!(bytes.next().await.unwrap().unwrap_err().resume_seq(), Some(1));
    assert!(bytes.next().await.is_none());
}

#[tokio::test]
async fn a_capture_counts_gaps_as_omitted() {
    let hub = hub();
    let reader = hub.subscribe(small(Overflow::DropOldest));
    for text in ["aaaa", "bbbb", "cccc"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    hub.close(EndInfo::default());
    let captured = reader.collect(100).await;
    assert_eq!((captured.omitted, captured.to_vec()), (8, b"cccc".to_vec()));
}
