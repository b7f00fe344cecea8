//! Which limit fired is in the report, with what the kernel has counted.

use std::time::Duration;

use orangery::events::{Item, Kind, Since};
use orangery::{
    Cause, Command, Counted, ErrorKind, ExitStatus, LimitKind, LimitUpdate, Limits, OomVerdict, Output, Report,
    Resource, Rlimit, Sandbox, SandboxBuilder, Stdin, Supervisor,
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
        trial!(an_oom_kill_of_a_grandchild_is_told_when_it_happens, Memory),
        trial!(a_wall_limit_takes_double_forked_descendants_along),
        trial!(limits_of_a_running_container_change, Pids, Cpu),
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
        let counted = counters(&report, LimitKind::Cpu);
        assert!(counted[0].after >= counted[0].bound && counted[0].bound > counted[0].before, "{counted:?}");
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
        let counted = counters(&report, LimitKind::FileSize);
        assert_eq!((counted[0].name.as_str(), counted[0].bound), ("SIGXFSZ", Some(4096)));
    });
}

fn refused_forks_are_counted_and_told(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        let forks = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exit 0";
        let report = ended(sh(supervisor, Sandbox::builder().pids(4), forks)).await.report;
        assert!(report.cgroup.pids_refused.known().is_some_and(|refused| *refused > 0), "{report:?}");
        assert_ne!(report.cause, Cause::Limit(LimitKind::Pids), "a refused fork ends nobody");
        let counted = counters(&report, LimitKind::Pids);
        assert_eq!(
            (counted[0].name.as_str(), counted[0].before, counted[0].bound),
            ("pids.events max", Some(0), Some(4))
        );
        assert_eq!(counted[0].after, report.cgroup.pids_refused.known().copied());
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

fn counters(report: &Report, limit: LimitKind) -> Vec<Counted> {
    let hit = report.limits_hit.iter().find(|hit| hit.limit == limit);
    hit.unwrap_or_else(|| panic!("no {limit:?} in {report:?}")).counters.clone()
}

/// The main process ends by itself with 0, after it was told that its grandchild was killed.
fn an_oom_kill_of_a_grandchild_is_told_when_it_happens(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut events = supervisor.events(Since::Now);
        // One that takes memory, and nobody beside it who would take some while it dies.
        let hog = "sh -c 'dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null; :'; read line; exit 0";
        let command = sh(supervisor, Sandbox::builder().memory(24 << 20), hog).stdin(Stdin::Piped);
        let container = command.spawn().await.unwrap();
        let told = async {
            while let Some(Item::Event(event)) = events.recv().await {
                if let Kind::Oom { verdict } = &event.kind {
                    return verdict.clone();
                }
            }
            panic!("it was not told");
        };
        let verdict = wait::soon("the event", told).await;
        assert!(matches!(verdict, OomVerdict::Own { kills: 1 } | OomVerdict::Killed { kills: 1 }), "{verdict:?}");
        assert!(container.inspect().report.is_none(), "it runs on");
        drop(container.stdin());
        let report = wait::soon("its end", container.wait()).await.unwrap();
        assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(0), Cause::Own));
        let counted = counters(&report, LimitKind::Memory);
        assert!(counted[0].name.ends_with("oom_kill"), "{counted:?}");
        assert_eq!((counted[0].before, counted[0].after), (Some(0), Some(1)));
        assert!(counted.iter().any(|it| it.bound == Some(24 << 20)), "{counted:?}");
        // Once for one kill.
        let mut again = 0;
        while let Some(Item::Event(event)) = wait::soon("the end", events.recv()).await {
            again += u32::from(matches!(event.kind, Kind::Oom { .. }));
            if event.kind == Kind::ContainerRemoved {
                break;
            }
        }
        assert_eq!(again, 0);
    });
}

fn a_wall_limit_takes_double_forked_descendants_along(scene: &Scene) {
    play(scene, async |supervisor| {
        let script = "(setsid sh -c 'sleep 1000 & sleep 1000' &); sleep 1000";
        let sandbox = Sandbox::builder().wall(Duration::from_millis(500)).build().unwrap();
        let command = supervisor.command("sh").arg("-c").arg(script).sandbox(&sandbox);
        let container = command.spawn().await.unwrap();
        // On a busy machine its time may be over by now.
        let init = container.inspect().init_pid.and_then(|pid| wait::try_pidfd(pid.cast_unsigned()));
        let report = wait::soon("its end", container.wait()).await.unwrap();
        assert_eq!(report.cause, Cause::Limit(LimitKind::Wall));
        let counted = counters(&report, LimitKind::Wall);
        assert!(counted[0].after >= counted[0].bound && counted[0].bound > counted[0].before, "{counted:?}");
        if let Some(init) = init {
            wait::gone(&init, "the pid namespace");
        }
    });
}

fn limits_of_a_running_container_change(scene: &Scene) {
    play(scene, async |supervisor| {
        let limited = Sandbox::builder().pids(8).cpu_time(Duration::from_secs(3600)).wall(Duration::from_secs(3600));
        let container = sh(supervisor, limited, "while :; do :; done").spawn().await.unwrap();
        let more = Limits { pids: Some(16), ..Limits::default() };
        container.update(LimitUpdate::from(more).cpu_time(Duration::from_secs(7200))).await.unwrap();
        let now = container.inspect();
        assert_eq!((now.limits.pids, now.watched.cpu_time_ms), (Some(16), Some(7_200_000)));
        let rlimits = std::fs::read_to_string(format!("/proc/{}/limits", container.pid())).unwrap();
        let cpu = rlimits.lines().find(|line| line.starts_with("Max cpu time")).unwrap();
        assert!(cpu.split_whitespace().any(|word| word == "7200"), "the backstop is lifted: {cpu}");
        container.update(LimitUpdate::new().cpu_time(Duration::from_millis(1))).await.unwrap();
        let report = wait::soon("its end", container.wait()).await.unwrap();
        assert_eq!(report.cause, Cause::Limit(LimitKind::Cpu), "{report:?}");
    });
}
