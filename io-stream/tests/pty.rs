//! Terminals: one stream, many readers, the end, the size, what is typed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::File;
use std::future::pending;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use futures_util::FutureExt;
use orangery_io_stream::{
    EndReason, Event, Hub, HubOptions, Pty, PtySize, StreamErrorKind, SubscribeOptions, pump_pair,
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
    workload.write_all(b"bye").unwrap();
    drop(workload);
    let hub = Hub::new(HubOptions::default());
    let mut reader = hub.subscribe(SubscribeOptions::default());
    let grace = Some(std::time::Duration::ZERO);
    assert_eq!(pump_pair(Some(pty.reader().unwrap()), None, hub, async {}, grace).await, EndReason::Leaked);
    let Some(Event::Chunk(chunk)) = reader.recv().await else { panic!("what was written comes first") };
    assert_eq!(chunk.data, "bye");
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

#[tokio::test]
async fn what_is_no_master_is_refused() {
    let (_master, workload) = terminal();
    for other in [OwnedFd::from(workload), File::open("/dev/null").unwrap().into()] {
        assert_eq!(Pty::from_master(other).unwrap_err().kind(), StreamErrorKind::NotAPty);
    }
}
