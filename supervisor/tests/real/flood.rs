//! A flood of pseudo-random output through a container to ten subscribers of different speed and policy, while one more is
//! cut off and comes back every 100 ms: the same bytes where nothing may be lost, gaps that add up exactly where something
//! may. 64 MiB; `ORANGERY_FLOOD_MIB=1024` for more.

use std::sync::Arc;
use std::time::Duration;

use orangery::stream::{Fallback, GapCause, RateLimit};
use orangery::{ContainerHandle, Cursor, Event, Measured, Mount, Overflow, Sandbox, SubscribeOptions, Subscriber};
use orangery_tests::noise::{period, stands_at};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::task::JoinHandle;

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(ten_readers_of_every_kind_and_one_that_comes_and_goes).long()]
}

/// What one reader came to.
#[derive(Debug, Default)]
struct Read {
    position: u64,
    received: u64,
    missed: u64,
    /// What the hub says that it took from this reader.
    counted: u64,
    cuts: u32,
}

impl Read {
    /// Takes one event; `false` at the last one.
    fn take(&mut self, event: &Event, noise: &[u8]) -> bool {
        match event {
            Event::Chunk(chunk) => {
                assert_eq!(chunk.offset, self.position, "a hole or a duplicate");
                assert!(stands_at(noise, chunk.offset, &chunk.data), "other bytes at {}", chunk.offset);
                self.position = chunk.end();
                self.received += chunk.data.len() as u64;
            }
            Event::Gap(gap) => {
                assert_eq!(gap.from, self.position, "a hole or a duplicate");
                assert_ne!(gap.cause, GapCause::NotRetained, "it was there from the first byte on");
                self.position = gap.to;
                self.missed += gap.bytes();
            }
            _ => return false,
        }
        true
    }

    fn leave(&mut self, reader: Subscriber) -> Cursor {
        let metrics = reader.metrics();
        self.counted += metrics.dropped + metrics.suppressed;
        reader.cursor()
    }
}

/// Reads to the end, at its own pace: others run so often before each event.
async fn read(container: ContainerHandle, options: SubscribeOptions, pace: usize, noise: Arc<Vec<u8>>) -> Read {
    let (mut reader, mut read) = (container.subscribe(options), Read::default());
    loop {
        for _ in 0..pace {
            tokio::task::yield_now().await;
        }
        let event = reader.recv().await.expect("the end was not seen");
        if read.take(&event, &noise) {
            continue;
        }
        let cursor = read.leave(reader);
        match event {
            Event::End(_) => return read,
            Event::Lagged { .. } => {
                (reader, read.cuts) = (again(&container, cursor, options, &mut read), read.cuts + 1)
            }
            other => panic!("unknown {other:?}"),
        }
    }
}

/// Comes back at `cursor`, or where the stream still can be read from: what lies between is missed.
fn again(container: &ContainerHandle, cursor: Cursor, options: SubscribeOptions, read: &mut Read) -> Subscriber {
    let mut at = cursor.to_string().parse().expect("a cursor");
    loop {
        match container.resume_from(at, options) {
            Ok(reader) => {
                let start = reader.opening().start.offset(orangery::Source::Stdout);
                let missed = start - read.position;
                (read.position, read.missed, read.counted) = (start, read.missed + missed, read.counted + missed);
                return reader;
            }
            Err(gone) => at = gone.oldest,
        }
    }
}

/// Reads to the end and is cut off every 100 ms.
async fn come_and_go(container: ContainerHandle, options: SubscribeOptions, noise: Arc<Vec<u8>>) -> Read {
    let (mut reader, mut read) = (container.subscribe(options), Read::default());
    let mut cut = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = cut.tick() => {
                let cursor = read.leave(reader);
                read.cuts += 1;
                tokio::task::yield_now().await;
                reader = again(&container, cursor, options, &mut read);
            }
            event = reader.recv() => if !read.take(&event.expect("the end was not seen"), &noise) {
                read.leave(reader);
                return read;
            },
        }
    }
}

fn ten_readers_of_every_kind_and_one_that_comes_and_goes(scene: &Scene) {
    let mebibytes: u64 = std::env::var("ORANGERY_FLOOD_MIB").map_or(64, |size| size.parse().expect("a number"));
    let total = mebibytes << 20;
    let programs = scene.dir().join("programs");
    std::fs::create_dir(&programs).expect("a directory");
    std::fs::copy(scene.probe(), programs.join("probe")).expect("a program");
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().mount(Mount::bind(&programs, "/programs").read_only()).ring(1 << 20).build();
        let flood = "read go; exec /programs/probe noise \"$0\"";
        let command = supervisor.command("sh").args(["-c", flood, &total.to_string()]).sandbox(&sandbox.unwrap());
        let container = command.stdin(orangery::Stdin::Piped).spawn().await.unwrap();
        let noise = Arc::new(period());
        let start = |overflow, rate, pace| -> JoinHandle<Read> {
            let options = SubscribeOptions { overflow, rate, queue_bytes: 300_000, ..SubscribeOptions::default() };
            tokio::spawn(read(container.clone(), options, pace, Arc::clone(&noise)))
        };
        let block = Overflow::block(Duration::from_secs(600));
        let spill = Overflow::Spill { limit: 4 * total };
        let rate = Some(RateLimit { bytes_per_second: 10 << 20, burst: 1 << 20 });
        let whole =
            [(block, 0), (block, 3), (spill, 50), (spill, 0)].map(|(overflow, pace)| start(overflow, None, pace));
        let refusing = Overflow::Block { budget: Duration::ZERO, then: Fallback::DropNewest };
        let lossy = [
            (Overflow::DropOldest, None, 20),
            (Overflow::DropNewest, None, 20),
            (Overflow::Disconnect, None, 20),
            (refusing, None, 5),
            (Overflow::DropOldest, rate, 0),
        ]
        .map(|(overflow, rate, pace)| start(overflow, rate, pace));
        let options = SubscribeOptions { overflow: block, queue_bytes: 300_000, ..SubscribeOptions::default() };
        let guest = tokio::spawn(come_and_go(container.clone(), options, Arc::clone(&noise)));
        while container.stream_metrics().subscribers.len() < 10 {
            tokio::task::yield_now().await;
        }
        // Only now does it begin: nobody has missed its first bytes.
        container.process().stdin().expect("a pipe").write_all_bytes("go\n".into()).await.unwrap();
        for reader in whole {
            let read = reader.await.unwrap();
            assert_eq!((read.received, read.missed, read.counted), (total, 0, 0), "{read:?}");
        }
        for reader in lossy {
            let read = reader.await.unwrap();
            assert_eq!((read.received + read.missed, read.missed), (total, read.counted), "{read:?}");
        }
        let read = guest.await.unwrap();
        assert_eq!((read.received + read.missed, read.missed), (total, read.counted), "{read:?}");
        assert!(read.cuts > 0);
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert_eq!((report.success(), report.stdout.bytes.clone()), (true, Measured::Known(total)), "{report:?}");
    });
}
