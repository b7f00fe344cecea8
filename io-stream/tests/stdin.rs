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
