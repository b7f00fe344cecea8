//! Raw hand-over: everything reaches the socket, the file, the pipe; what does not stays in the pipe.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod workload;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use orangery_io_stream::{HandOver, HandOverEnd, PipeReader, StreamErrorKind};
use rustix::pipe::{PipeFlags, pipe_with};
use workload::{MIB, pipe, writer};

fn is_right(bytes: &[u8], from: usize) -> bool {
    bytes.iter().zip(from..).all(|(byte, at)| usize::from(*byte) == at % 251)
}

#[tokio::test]
async fn a_slow_client_gets_everything() {
    let total = 8 * MIB;
    let (out, file) = pipe();
    let workload = writer(file, total);
    let (mut client, socket) = UnixStream::pair().unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    let mut hand_over = HandOver::new(out, socket.into()).unwrap();
    assert!(matches!(hand_over.run().await, HandOverEnd::Eof));
    assert_eq!(hand_over.bytes(), total as u64);
    drop(hand_over);
    let all = reading.join().unwrap();
    assert!(all.len() == total && is_right(&all, 0));
    workload.join().unwrap();
}

#[tokio::test]
async fn a_pipe_behind_the_pipe_works_too() {
    let (out, file) = pipe();
    let workload = writer(file, MIB);
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        std::fs::File::from(read).read_to_end(&mut all).unwrap();
        all
    });
    let mut hand_over = HandOver::new(out, write).unwrap();
    assert!(matches!(hand_over.run().await, HandOverEnd::Eof));
    drop(hand_over);
    assert!(is_right(&reading.join().unwrap(), 0));
    workload.join().unwrap();
}

#[tokio::test]
async fn a_file_gets_everything_and_an_appending_one_is_refused() {
    let (out, file) = pipe();
    let workload = writer(file, MIB);
    let target = tempfile::NamedTempFile::new().unwrap();
    let mut hand_over = HandOver::new(out, target.reopen().unwrap().into()).unwrap();
    assert!(matches!(hand_over.run().await, HandOverEnd::Eof));
    let all = std::fs::read(target.path()).unwrap();
    assert!(all.len() == MIB && is_right(&all, 0));
    workload.join().unwrap();
    let appending = std::fs::File::options().append(true).open(target.path()).unwrap();
    let refused = HandOver::new(pipe().0, appending.into()).unwrap_err();
    assert_eq!(refused.kind(), StreamErrorKind::WrongEnd);
    let (socket, _other) = UnixStream::pair().unwrap();
    let reader = PipeReader::from_fd(socket.into()).unwrap();
    let refused = HandOver::new(reader, target.reopen().unwrap().into()).unwrap_err();
    assert_eq!(refused.kind(), StreamErrorKind::NotAPipe);
}

#[tokio::test]
async fn what_a_client_that_left_did_not_get_is_still_in_the_pipe() {
    let (out, mut file) = pipe();
    let (mut client, socket) = UnixStream::pair().unwrap();
    let mut hand_over = HandOver::new(out, socket.into()).unwrap();
    let pattern: Vec<u8> = (0..30_000).map(|at| (at % 251) as u8).collect();
    file.write_all(&pattern[..10_000]).unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        let mut got = vec![0; 10_000];
        client.read_exact(&mut got).unwrap();
        got
    });
    // Dropped in the midst of its work: nothing is lost.
    let got = tokio::select! {
        end = hand_over.run() => panic!("an end: {end:?}"),
        got = reading => got.unwrap(),
    };
    file.write_all(&pattern[10_000..]).unwrap();
    drop(file);
    assert!(matches!(hand_over.run().await, HandOverEnd::TargetGone));
    assert_eq!(hand_over.bytes(), 10_000);
    let reader = hand_over.into_reader();
    let rest = tempfile::NamedTempFile::new().unwrap();
    let mut again = HandOver::new(reader, rest.reopen().unwrap().into()).unwrap();
    assert!(matches!(again.run().await, HandOverEnd::Eof));
    let rest = std::fs::read(rest.path()).unwrap();
    assert!(rest.len() == 20_000 && is_right(&got, 0) && is_right(&rest, 10_000));
}
