//! The workload of the pump tests: a thread at the other end of a real pipe, and the check of what came
//! through it.

use std::fs::File;
use std::io::Write;
use std::thread::JoinHandle;

use orangery_io_stream::{EndReason, Event, PipeReader, Subscriber};
use rustix::pipe::{PipeFlags, pipe_with};

pub(crate) const MIB: usize = 1024 * 1024;

/// A pipe with our end wrapped and the workload's end as a blocking file.
pub(crate) fn pipe() -> (PipeReader, File) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (PipeReader::from_fd(read).unwrap(), write.into())
}

/// A thread that writes `len` bytes, byte n being n modulo 251, then closes.
pub(crate) fn writer(mut file: File, len: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let pattern: Vec<u8> = (0..251 * 256).map(|at| (at % 251) as u8).collect();
        let mut left = len;
        while left > 0 {
            let part = left.min(pattern.len());
            file.write_all(&pattern[..part]).unwrap();
            left -= part;
        }
    })
}

#[allow(dead_code, reason = "the tests of logs have their own readers")]
/// Reads to the end and checks the order, the bytes and the sum; gives received, missed, and the end.
pub(crate) async fn check_all(mut subscriber: Subscriber, total: u64) -> (u64, u64, EndReason) {
    let (mut position, mut missed) = (0, 0);
    loop {
        match subscriber.recv().await.unwrap() {
            Event::Chunk(chunk) => {
                assert_eq!(chunk.offset, position);
                let mut at = position;
                for byte in &chunk.data {
                    assert_eq!(u64::from(*byte), at % 251);
                    at += 1;
                }
                position = at;
            }
            Event::Gap(gap) => {
                assert_eq!(gap.from, position);
                position = gap.to;
                missed += gap.bytes();
            }
            Event::End(end) => {
                assert_eq!((position, end.stdout.bytes), (total, total));
                assert_eq!(end.stdout.dropped, missed);
                assert_eq!(subscriber.recv().await, None);
                return (total - missed, missed, end.reason);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}
