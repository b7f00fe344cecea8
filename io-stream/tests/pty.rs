//! Terminals: one stream, many readers, the end, the size, what is typed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::pending;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use futures_util::FutureExt;
use orangery_io_stream::{
    EndInfo, EndReason, Event, Hub, HubOptions, Pty, PtySize, StdinWriter, StreamErrorKind, SubscribeOptions, pump_pair,
};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::tcgetwinsize;
use tokio::io::AsyncWriteExt;

/// A master, and the terminal that a workload would have.
fn terminal() -> (OwnedFd, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let peer = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (master, peer.into())
}

#[tokio::test]
async fn every_reader_gets_the_same_and_the_end_is_one() {
    let (master, mut workload) = terminal();
    let pty = Pty::from_master(master).unwrap();
    let hub = Hub::new(HubOptions::default());
    let early = hub.subscribe(SubscribeOptions::default());
    drop(hub.subscribe(SubscribeOptions::default()));
    let text = "hello\n".repeat(5000);
    let typed = std::thread::spawn(move || workload.write_all(text.as_bytes()).unwrap());
    // Closing the last terminal is the end of the stream, not an error.
    let reason = pump_pair(Some(pty.reader().unwrap()), None, hub.clone(), pending(), None).await;
    typed.join().unwrap();
    assert_eq!(reason, EndReason::Eof);
    let all = "hello\r\n".repeat(5000);
    let late = hub.subscribe(SubscribeOptions::default());
    for reader in [early, late] {
        assert!(reader.collect(1 << 20).await.to_vec() == all.as_bytes());
    }
    assert_eq!(hub.totals(orangery_io_stream::Source::Stderr).bytes, 0);
}

#[tokio::test]
async fn a_background_process_does_not_hold_the_end_back() {
    let (master, mut workload) = terminal();
    let background = workload.try_clone().unwrap();
    let pty = Pty::from_master(master).unwrap();
    // As much as there is room for: several reads of it.
    workload.set_nonblocking();
    let (mut written, line) = (0, [b'x'; 100]);
    while let Ok(len) = workload.write(&line) {
        written += len;
    }
    assert!(written > 4096, "{written}");
    drop(workload);
    let hub = Hub::new(HubOptions::default());
    let reader = hub.subscribe(SubscribeOptions::default());
    let grace = Some(std::time::Duration::ZERO);
    assert_eq!(pump_pair(Some(pty.reader().unwrap()), None, hub, async {}, grace).await, EndReason::Leaked);
    assert_eq!(reader.collect(1 << 20).await.to_vec().len(), written, "what was written comes first");
    drop(background);
}

#[tokio::test]
async fn the_size_is_seen_and_has_a_default() {
    let (master, workload) = terminal();
    let pty = Pty::from_master(master).unwrap();
    let seen = || tcgetwinsize(&workload).map(|size| (size.ws_row, size.ws_col)).unwrap();
    assert_eq!((seen(), pty.size().unwrap()), ((24, 80), PtySize::default()));
    pty.resize(PtySize { rows: 50, columns: 132 }).unwrap();
    assert_eq!(seen(), (50, 132));
    // One that has a size keeps it.
    let (master, workload) = terminal();
    let size = rustix::termios::Winsize { ws_row: 5, ws_col: 7, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&workload, size).unwrap();
    assert_eq!(Pty::from_master(master).unwrap().size().unwrap(), PtySize { rows: 5, columns: 7 });
}

#[tokio::test]
async fn what_is_typed_is_read_and_an_end_can_be_typed() {
    let (master, mut workload) = terminal();
    let pty = Pty::from_master(master).unwrap();
    let mut keyboard = pty.writer().unwrap();
    keyboard.write_all(b"name\n").await.unwrap();
    keyboard.end_of_input().await.unwrap();
    keyboard.shutdown().await.unwrap();
    let mut text = String::new();
    workload.read_to_string(&mut text).unwrap();
    assert_eq!(text, "name\n");
    // The terminal's echo is its output.
    let hub = Hub::new(HubOptions::default());
    let mut reader = hub.subscribe(SubscribeOptions::default());
    let mut pump = Box::pin(pump_pair(Some(pty.reader().unwrap()), None, hub, pending(), None));
    let mut echo = Vec::new();
    while !echo.starts_with(b"name\r\n") {
        assert!((&mut pump).now_or_never().is_none());
        while let Some(Some(Event::Chunk(chunk))) = reader.recv().now_or_never() {
            echo.extend_from_slice(&chunk.data);
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_keyboard_that_nobody_reads_makes_only_its_writer_wait() {
    let (master, workload) = terminal();
    let pty = Pty::from_master(master).unwrap();
    let mut keyboard = pty.writer().unwrap();
    let more_than_fits = vec![b'\n'; 1 << 20];
    assert!(keyboard.write_all(&more_than_fits).now_or_never().is_none());
    drop(workload);
}

/// One end for the line that was begun, one for the input.
#[tokio::test]
async fn an_end_behind_half_a_line_is_typed_twice() {
    for (text, read) in
        [("half", "half"), ("whole\n", "whole\n"), ("return\r", "return\n"), ("gone\u{15}", ""), ("", "")]
    {
        let (master, mut workload) = terminal();
        let pty = Pty::from_master(master).unwrap();
        let mut stdin = StdinWriter::typing(pty.writer().unwrap());
        stdin.write_all_bytes(text.into()).await.unwrap();
        stdin.shutdown().await.unwrap();
        assert!(stdin.is_closed());
        let mut all = String::new();
        workload.read_to_string(&mut all).unwrap();
        assert_eq!(all, read, "{text:?}");
        // Nothing is left for the next reader: one end was not one too many.
        workload.set_nonblocking();
        assert_eq!(workload.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "{text:?}");
    }
}

fn raw(workload: &File) {
    let mut modes = rustix::termios::tcgetattr(workload).unwrap();
    modes.make_raw();
    rustix::termios::tcsetattr(workload, rustix::termios::OptionalActions::Now, &modes).unwrap();
}

trait Nonblocking {
    fn set_nonblocking(&self);
}

impl Nonblocking for File {
    fn set_nonblocking(&self) {
        let flags = rustix::fs::fcntl_getfl(self).unwrap();
        rustix::fs::fcntl_setfl(self, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    }
}

/// No byte of a mebibyte is lost at a reader that reads less than is typed, and a raw terminal knows no end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_typed_at_a_raw_terminal_comes_whole_and_without_an_end() {
    let (master, mut workload) = terminal();
    raw(&workload);
    let pty = Pty::from_master(master).unwrap();
    let mut stdin = StdinWriter::typing(pty.writer().unwrap());
    let data: bytes::Bytes = (0..1024 * 1024_u32).map(|at| (at % 251) as u8).collect();
    let expected = data.clone();
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; expected.len()];
        for piece in all.chunks_mut(1000) {
            workload.read_exact(piece).unwrap();
        }
        assert!(all == expected, "another mebibyte");
        workload
    });
    stdin.write_all_bytes(data).await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut workload = reading.join().unwrap();
    workload.set_nonblocking();
    assert_eq!(workload.read(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Whoever waits for room is told, and the terminal is hung up as soon as its pump has gone with its hub.
#[tokio::test]
async fn a_hang_up_takes_the_keyboard_away_and_ends_what_is_read() {
    let (master, mut workload) = terminal();
    raw(&workload);
    let pty = Pty::from_master(master).unwrap();
    let mut stdin = StdinWriter::typing(pty.writer().unwrap());
    let hub = Hub::new(HubOptions::default());
    let pump = tokio::spawn(pump_pair(Some(pty.reader().unwrap()), None, hub.clone(), pending(), None));
    let more_than_fits = vec![b'x'; 1 << 20];
    let mut writing = Box::pin(stdin.write_all(&more_than_fits));
    assert!(writing.as_mut().now_or_never().is_none());
    pty.hang_up();
    assert_eq!(writing.await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    stdin.shutdown().await.unwrap();
    hub.close(EndInfo::default());
    assert_eq!(pump.await.unwrap(), EndReason::Eof);
    assert_eq!(workload.read(&mut [0; 8]).unwrap(), 0, "hung up");
    assert!(workload.write_all(b"x").is_err());
}

#[tokio::test]
async fn what_is_no_master_is_refused() {
    let (_master, workload) = terminal();
    for other in [OwnedFd::from(workload), File::open("/dev/null").unwrap().into()] {
        assert_eq!(Pty::from_master(other).unwrap_err().kind(), StreamErrorKind::NotAPty);
    }
}
