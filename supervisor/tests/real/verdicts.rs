//! Which limit fired is in the report, with what the kernel has counted.

use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::{
    Cause, Command, ErrorKind, ExitStatus, LimitKind, Output, Resource, Rlimit, Sandbox, SandboxBuilder, Supervisor,
};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(processor_time_of_all_processes_is_one_limit, Cpu),
        trial!(processor_time_of_one_process_is_a_limit_everywhere),
        trial!(silence_is_a_limit_and_talking_is_not),
        trial!(silence_that_nobody_could_hear_is_refused),
        trial!(a_file_that_grows_too_large_is_the_verdict),
        trial!(refused_forks_are_counted_and_told, Pids),
    ]
}

fn sh(supervisor: &Supervisor, sandbox: SandboxBuilder, script: &str) -> Command {
    supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox.build().unwrap())
}

async fn ended(command: Command) -> Output {
    wait::soon("its end", command.run()).await.unwrap()
}

/// Four that spin in turn: none of them alone is over.
fn processor_time_of_all_processes_is_one_limit(scene: &Scene) {
    play(scene, async |supervisor| {
        let limit = Duration::from_millis(300);
        let spin = "for i in 1 2 3 4; do (while :; do :; done) & done; wait";
        let report = ended(sh(supervisor, Sandbox::builder().cpu_time(limit), spin)).await.report;
        assert_eq!(report.cause, Cause::Limit(LimitKind::Cpu), "{report:?}");
        assert!(matches!(report.exit, ExitStatus::Signal { signal: 9, .. }), "{report:?}");
        let used = u128::from(*report.cgroup.cpu_ns.known().expect("counted"));
        assert!(used >= limit.as_nanos(), "{report:?}");
        let enough = Sandbox::builder().cpu_time(Duration::from_secs(60));
        assert!(ended(sh(supervisor, enough, "exit 0")).await.report.success());
    });
}

fn processor_time_of_one_process_is_a_limit_everywhere(scene: &Scene) {
    play(scene, async |supervisor| {
        let spin = Sandbox::builder().cpu_time(Duration::from_millis(700));
        let report = ended(sh(supervisor, spin, "while :; do :; done")).await.report;
        assert_eq!(report.cause, Cause::Limit(LimitKind::Cpu), "{report:?}");
    });
}

fn silence_is_a_limit_and_talking_is_not(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let silent = Sandbox::builder().idle(Duration::from_millis(200));
        let output = ended(sh(supervisor, silent, "sleep 1000")).await;
        assert_eq!(output.report.cause, Cause::Limit(LimitKind::Idle), "{:?}", output.report);
        let hit = async {
            while let Some(Item::Event(event)) = events.recv().await {
                if event.kind == (Kind::LimitHit { limit: LimitKind::Idle }) {
                    return;
                }
            }
            panic!("the limit was not told");
        };
        wait::soon("the event", hit).await;
        let talking = Sandbox::builder().idle(Duration::from_secs(3600));
        assert!(ended(sh(supervisor, talking, "echo a; exit 0")).await.report.success());
    });
}

fn silence_that_nobody_could_hear_is_refused(scene: &Scene) {
    play(scene, async |supervisor| {
        let null = || std::fs::File::create("/dev/null").unwrap().into();
        let deaf = sh(supervisor, Sandbox::builder().idle(Duration::from_secs(1)), "exit 0");
        let refused = deaf.stdout_fd(null()).stderr_fd(null()).run().await.unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("idle")));
    });
}

fn a_file_that_grows_too_large_is_the_verdict(scene: &Scene) {
    play(scene, async |supervisor| {
        let limit = Rlimit::new(Resource::Fsize, 4096, 4096).unwrap();
        let command = sh(supervisor, Sandbox::builder(), "exec head -c 100000 /dev/zero > /tmp/file").rlimit(limit);
        let report = ended(command).await.report;
        assert_eq!(report.cause, Cause::Limit(LimitKind::FileSize), "{report:?}");
        assert!(matches!(report.exit, ExitStatus::Signal { signal: 25, .. }), "{report:?}");
    });
}

fn refused_forks_are_counted_and_told(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let forks = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exit 0";
        let report = ended(sh(supervisor, Sandbox::builder().pids(4), forks)).await.report;
        assert!(report.cgroup.pids_refused.known().is_some_and(|refused| *refused > 0), "{report:?}");
        assert_ne!(report.cause, Cause::Limit(LimitKind::Pids), "a refused fork ends nobody");
        let mut told = Vec::new();
        while let Some(Item::Event(event)) = wait::soon("the end", events.recv()).await {
            told.push(event.kind.clone());
            if event.kind == Kind::ContainerRemoved {
                break;
            }
        }
        assert!(told.contains(&Kind::LimitHit { limit: LimitKind::Pids }), "{told:?}");
    });
}
