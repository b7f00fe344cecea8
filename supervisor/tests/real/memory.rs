//! Output must not exhaust memory: an endless writer beside readers that do not keep up. Compared in steps of bytes,
//! never by time.

use orangery::stream::{Event, Overflow, SubscribeOptions};
use orangery::{Measured, Sandbox, Source};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(an_endless_writer_and_slow_readers).long(),
        trial!(a_captured_flood_is_bounded).long(),
        trial!(readers_that_read_nothing_after_the_end),
    ]
}

const MIB: u64 = 1 << 20;
/// The ring and each queue.
const BUDGET: u64 = 256 << 10;
/// What may come on top of all budgets: allocator and noise.
const SLACK: u64 = 8 * MIB;

/// Resident bytes of this process that are not files.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

fn slow(overflow: Overflow) -> SubscribeOptions {
    SubscribeOptions { overflow, queue_bytes: BUDGET as usize, ..SubscribeOptions::default() }
}

/// Sixteen steps of 16 MiB each: at each the slow readers take one event. After the first few steps nothing grows.
fn an_endless_writer_and_slow_readers(scene: &Scene) {
    const STEP: u64 = 16 * MIB;
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().ring(BUDGET as usize).build().unwrap();
        let endless = supervisor.command("dd").arg("if=/dev/zero").arg("bs=64K").sandbox(&sandbox);
        let container = endless.spawn().await.unwrap();
        let mut pace = container.stdout();
        let mut readers: Vec<_> = [Overflow::DropOldest, Overflow::DropNewest, Overflow::Disconnect]
            .into_iter()
            .map(|overflow| container.subscribe(slow(overflow)))
            .collect();
        let (mut passed, mut next, mut sizes) = (0, STEP, Vec::new());
        while sizes.len() < 16 {
            passed = match wait::soon("output", pace.recv()).await.expect("it writes for ever") {
                Event::Chunk(chunk) => chunk.end(),
                Event::Gap(gap) => gap.to,
                _ => passed,
            };
            if passed >= next {
                next = passed + STEP;
                sizes.push(resident());
                for reader in &mut readers {
                    wait::soon("an event", reader.recv()).await;
                }
            }
        }
        let (early, late) = (sizes[3], sizes[15]);
        assert!(late <= early + SLACK, "{} MiB more after 192 MiB of output: {sizes:?}", (late - early) / MIB);
        container.kill().unwrap();
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert!(report.stdout.bytes.known().is_some_and(|bytes| *bytes >= 16 * STEP));
    });
}

/// Head and tail of a quarter of a GiB, each byte counted.
fn a_captured_flood_is_bounded(scene: &Scene) {
    play(scene, async |supervisor| {
        let flood = |count: u64| {
            let count = format!("count={count}");
            supervisor.command("dd").arg("if=/dev/zero").arg("bs=64K").arg(count).capture(64 << 10).run()
        };
        wait::soon("a first one", flood(64)).await.unwrap();
        let before = resident();
        let output = tokio::time::timeout(wait::PATIENCE * 5, flood(4096)).await.expect("in time").unwrap();
        assert_eq!(output.report.stdout.bytes, Measured::Known(256 * MIB));
        let kept = (output.stdout.head.len() + output.stdout.tail.len()) as u64;
        assert_eq!((kept, kept + output.stdout.omitted), (64 << 10, 256 * MIB));
        let grown = resident().saturating_sub(before);
        assert!(grown <= SLACK, "{} MiB more after 256 MiB", grown / MIB);
    });
}

/// A hundred handles to streams that nobody reads: what each holds is its container's ring, not what was written.
fn readers_that_read_nothing_after_the_end(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().ring(BUDGET as usize).build().unwrap();
        let command = supervisor.command("dd").arg("if=/dev/zero").arg("bs=64K").arg("count=64").sandbox(&sandbox);
        let container = command.spawn().await.unwrap();
        let readers: Vec<_> = (0..100).map(|_| container.subscribe(slow(Overflow::DropOldest))).collect();
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert_eq!(report.stdout.bytes, Measured::Known(4 * MIB));
        let before = resident();
        for mut reader in readers {
            let (mut seen, mut lost) = (0, 0);
            while let Some(event) = wait::soon("an event", reader.recv()).await {
                match event {
                    Event::Chunk(chunk) if chunk.source == Source::Stdout => seen += chunk.data.len() as u64,
                    Event::Gap(gap) if gap.source == Source::Stdout => lost += gap.to - gap.from,
                    _ => {}
                }
            }
            assert_eq!(seen + lost, 4 * MIB);
            assert!(seen <= BUDGET + MIB, "{seen} bytes were kept");
        }
        assert!(resident() <= before + SLACK);
    });
}
