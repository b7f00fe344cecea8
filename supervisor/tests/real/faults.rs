//! Fault points that only real containers pass: the stages of a creation and the steps of the plans, by the policy of
//! the supervisor. Every step and every stage of them is `tests/faults` of the runtime; this is the way there.

use std::sync::Arc;
use std::time::Duration;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::runtime::native::Point;
use orangery::stream::log::{LogEvent, LogOptions, LogReader, ReadOptions};
use orangery::stream::{Fate, From, GapCause};
use orangery::{ErrorKind, Event, Measured, Sandbox, Stdin, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};
use tokio::io::AsyncWriteExt as _;

use crate::stage::builder;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_step_of_a_plan_fails_for_the_container_that_was_meant),
        trial!(a_stage_fails_with_the_number_given),
        trial!(a_write_of_a_log_fails_and_the_command_runs_on),
    ]
}

/// Fails here, for containers with the label `faulty`.
struct Faulty(Site, i32);

impl FaultPolicy for Faulty {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        let meant = at.site == self.0 && at.labels.contains_key("faulty") && at.generation == 1;
        if meant { Fault::Errno(self.1) } else { Fault::Continue }
    }
}

/// What became of a container with the label, after one without it was run in the same supervisor.
fn refused(scene: &Scene, site: Site, errno: i32) -> orangery::Error {
    scene.block_on(async {
        let policy = Arc::new(Faulty(site, errno));
        let supervisor: Supervisor = builder(scene).fault_policy(policy).build().unwrap();
        let sound = supervisor.command("true").run().await.unwrap();
        assert!(sound.report.success(), "{:?}", sound.report);
        let sandbox = Sandbox::builder().label("faulty", "yes").build().unwrap();
        let error = supervisor.command("true").sandbox(&sandbox).run().await.unwrap_err();
        wait::soon("shutdown", supervisor.shutdown()).await;
        error
    })
}

fn a_step_of_a_plan_fails_for_the_container_that_was_meant(scene: &Scene) {
    for site in [Site::PlanStep(2), Site::ProcessStep(1)] {
        let error = refused(scene, site, 5);
        let step = if site == Site::PlanStep(2) { "step 2 " } else { "step 1 " };
        assert!(error.stage().is_some_and(|stage| stage.starts_with(step)), "{error:?}");
        // The kernel's own answer in the child, EINVAL.
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Creation, Some(22)), "{error:?}");
    }
}

fn a_stage_fails_with_the_number_given(scene: &Scene) {
    let error = refused(scene, Site::Stage(Point::ContainerBorn), 12);
    assert_eq!((error.kind(), error.errno(), error.stage()), (ErrorKind::System, Some(12), Some("ContainerBorn")));
}

/// Of the container's log this write finds no room.
struct FullAt(u64);

impl FaultPolicy for FullAt {
    fn decide(&self, at: &FaultPoint<'_>) -> Fault {
        if at.site == Site::Log && at.count == self.0 { Fault::Errno(28) } else { Fault::Continue }
    }
}

fn a_write_of_a_log_fails_and_the_command_runs_on(scene: &Scene) {
    scene.block_on(async {
        let supervisor: Supervisor = builder(scene).fault_policy(Arc::new(FullAt(1))).build().unwrap();
        let dir = scene.dir().join("log");
        let options = LogOptions { retry: Duration::ZERO, ..LogOptions::default() };
        let script = "echo one; read x; echo two; read x; echo three; exit 3";
        let command = supervisor.command("sh").arg("-c").arg(script).stdin(Stdin::Piped).log(&dir, options);
        let container = command.spawn().await.unwrap();
        let (mut output, mut stdin) = (container.output(), container.stdin().unwrap());
        let mut seen = Vec::new();
        for lost in [0, 4] {
            while lost > container.stream_metrics().dropped {
                tokio::task::yield_now().await;
            }
            if lost == 0 {
                seen.push(wait::soon("the first line", output.recv()).await.unwrap());
            }
            stdin.write_all(b"\n").await.unwrap();
        }
        while let Some(event) = wait::soon("the rest", output.recv()).await {
            seen.push(event);
        }
        let [Event::Chunk(one), Event::Gap(gap), Event::Chunk(three), Event::End(end)] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((&one.data[..], &three.data[..], three.offset), (&b"one\n"[..], &b"three\n"[..], 8));
        assert_eq!((gap.from, gap.to, gap.cause), (4, 8, GapCause::LogFull));
        assert_eq!((end.fate, end.stdout.dropped), (Fate::Code(3), 4));
        let report = wait::soon("its report", container.wait()).await.unwrap();
        assert_eq!((report.stdout.lost, &report.stdout.bytes), (4, &Measured::Known(14)));
        assert!(report.stdout.pipe.known().is_some_and(|held| *held >= 4096), "{:?}", report.stdout);
        let mut files = LogReader::open(&dir, From::Start, ReadOptions::default()).unwrap();
        let mut kept = Vec::new();
        while let Some(event) = files.try_next().unwrap() {
            match event {
                LogEvent::Chunk(chunk) => kept.extend_from_slice(&chunk.data),
                LogEvent::Gap(found) => assert_eq!(found, *gap),
                LogEvent::End(found) => assert_eq!(found.fate, Fate::Code(3)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kept, b"one\nthree\n");
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}
