//! Standard input over a real pipe: half-close, early close, and more bytes than the pipe holds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::{ErrorKind, Read};

use bytes::Bytes;
use orangery_io_stream::{StdinWriter, StreamErrorKind};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncWriteExt;

/// Standard input as the workload has it (blocking), and our writer.
fn stdin() -> (File, StdinWriter) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (read.into(), StdinWriter::from_fd(write).unwrap())
}

#[tokio::test]
async fn ten_mebibytes_and_a_half_close() {
    let (mut workload, mut writer) = stdin();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        workload.read_to_end(&mut all).unwrap();
        all
    });
    let data: Bytes = (0..10 * 1024 * 1024_u32).map(|at| (at % 251) as u8).collect();
    writer.write_all_bytes(data.clone()).await.unwrap();
    writer.shutdown().await.unwrap();
    // The writer still lives: the end of file came from the shutdown.
    assert!(reading.join().unwrap() == data);
    assert!(writer.is_closed());
    assert_eq!(writer.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    writer.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_early_close_by_the_workload_is_a_normal_end() {
    let (workload, mut writer) = stdin();
    drop(workload);
    assert!(!writer.is_closed());
    let error = writer.write_all_bytes(Bytes::from("unwanted")).await.unwrap_err();
    assert_eq!(error.kind(), StreamErrorKind::BrokenPipe);
    assert!(writer.is_closed());
    writer.flush().await.unwrap();
    writer.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_waiting_writer_learns_of_the_close() {
    let (workload, mut writer) = stdin();
    let writing = tokio::spawn(async move {
        let more_than_fits = vec![0; 1024 * 1024];
        writer.write_all(&more_than_fits).await.unwrap_err().kind()
    });
    tokio::task::yield_now().await;
    drop(workload);
    assert_eq!(writing.await.unwrap(), ErrorKind::BrokenPipe);
}

#[test]
fn a_writer_is_send() {
    fn assert_send<T: Send>() {}
    assert_send::<StdinWriter>();
}

#[tokio::test]
async fn who_asked_is_told_once_that_it_is_closed_and_not_when_it_comes_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    for way in ["shutdown", "drop", "early", "lent"] {
        let (workload, writer) = stdin();
        let told = Arc::new(AtomicUsize::new(0));
        let for_it = Arc::clone(&told);
        let mut writer = writer.when_closed(move || {
            for_it.fetch_add(1, Ordering::Relaxed);
        });
        match way {
            "shutdown" => writer.shutdown().await.unwrap(),
            "early" => {
                drop(workload);
                writer.write_all_bytes("x".into()).await.unwrap_err();
            }
            "lent" => {
                let (sender, back) = std::sync::mpsc::sync_channel(1);
                drop(writer.lent(move |writer| drop(sender.send(writer))));
                assert_eq!(told.load(Ordering::Relaxed), 0);
                writer = back.recv().unwrap();
            }
            _ => {}
        }
        drop(writer);
        assert_eq!(told.load(Ordering::Relaxed), 1, "{way}");
    }
}
