//! Each kind of fault as the kernel has it, and how it ends: with its lease, with its plan, with the process that has
//! injected it.

use std::path::PathBuf;
use std::time::Duration;

use orangery::faults::{FaultKind, FaultStep, Injection, Pick, Plan, PlanOf, PlannedFault, Trigger};
use orangery::{Cause, ContainerHandle, ErrorKind, ExitStatus, Sandbox, Source, State, Stdin, Supervisor};
use orangery_tests::stock::descendants;
use orangery_tests::victim::{self, Victim, reap_adopted};
use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::AsyncWriteExt as _;

use crate::stage::builder;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(the_third_is_killed_and_no_other),
        trial!(a_pause_is_one_and_ends_with_its_lease),
        trial!(starved_of_memory_it_recovers, Memory),
        trial!(starved_of_processes_it_recovers, Pids),
        trial!(starved_of_a_processor_its_quota_comes_back, Cpu),
        trial!(nobody_can_be_starved_without_a_cgroup),
        trial!(a_stalled_writer_stands_still_and_loses_nothing),
        trial!(a_step_of_either_plan_fails),
        trial!(an_exit_is_late_and_another),
        trial!(a_stopped_injector_does_not_lengthen_a_pause, Freezer),
        trial!(a_stopped_injector_does_not_lengthen_a_stop),
        trial!(a_killed_injector_leaves_nothing),
    ]
}

const FIRST: Trigger = Trigger::Spawn { nth: 1 };
const NOW: Trigger = Trigger::Now;

/// Start a supervisor with fault points, play, shut it down.
fn play(scene: &Scene, play: impl AsyncFnOnce(&Supervisor)) {
    scene.block_on(async {
        let supervisor = builder(scene).fault_points().build().expect("a supervisor");
        play(&supervisor).await;
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

async fn inject(supervisor: &Supervisor, fault: PlannedFault) -> Injection {
    supervisor.inject(Plan::seeded(1).fault(fault)).await.expect("armed")
}

fn fault(kind: FaultKind, trigger: Trigger) -> PlannedFault {
    PlannedFault::new("f", kind, trigger)
}

async fn applied(injection: &Injection) {
    let saw = async {
        tokio::select! {
            saw = injection.saw("f", FaultStep::Applied, 1) => saw,
            _ = injection.saw("f", FaultStep::Skipped, 1) => false,
        }
    };
    let saw = wait::soon("the fault", saw).await;
    assert!(saw, "{:?}", injection.report().entries);
}

/// A shell that does something for each line that it is sent, and says so.
struct Shell {
    container: ContainerHandle,
    /// None where it has ended before it was asked for.
    stdin: Option<orangery::StdinWriter>,
    said: orangery::stream::view::LineStream,
}

impl Shell {
    async fn start(supervisor: &Supervisor, sandbox: &Sandbox, does: &str) -> Self {
        let script = format!("while read x; do {does}; done");
        let command = supervisor.command("sh").arg("-c").arg(script).sandbox(sandbox).stdin(Stdin::Piped);
        let container = command.spawn().await.expect("a shell");
        let stdin = container.stdin();
        let said = container.stdout().lines(orangery::stream::view::LineOptions::default());
        Self { container, stdin, said }
    }

    async fn send(&mut self) {
        self.stdin.as_mut().expect("its input").write_all(b"x\n").await.expect("sent");
    }

    async fn line(&mut self) -> String {
        let event = wait::soon("a line", self.said.next()).await;
        let Some(orangery::stream::view::LineEvent::Line(line)) = event else { panic!("{event:?}") };
        String::from_utf8_lossy(&line.data).into_owned()
    }

    async fn ask(&mut self) -> String {
        self.send().await;
        self.line().await
    }
}

fn the_third_is_killed_and_no_other(scene: &Scene) {
    play(scene, async |supervisor| {
        let injection = inject(supervisor, fault(FaultKind::Kill, Trigger::Spawn { nth: 3 })).await;
        let mut shells = Vec::new();
        for _ in 0..5 {
            shells.push(Shell::start(supervisor, &Sandbox::builder().build().unwrap(), "echo on").await);
        }
        applied(&injection).await;
        for (n, shell) in shells.iter_mut().enumerate() {
            if n == 2 {
                let report = wait::soon("its end", shell.container.wait()).await.unwrap();
                assert_eq!(report.exit, ExitStatus::Signal { signal: 9, core_dumped: false });
                assert_eq!(report.cause, Cause::Injected { fault: "f".into() });
            } else {
                assert_eq!(shell.ask().await, "on");
            }
        }
        let report = injection.end().await;
        let hit: Vec<_> = report.of("f", FaultStep::Applied).filter_map(|entry| entry.container.clone()).collect();
        assert_eq!(hit, [shells[2].container.id()]);
    });
}

/// By the freezer where there is one, else by SIGSTOP.
fn a_pause_is_one_and_ends_with_its_lease(scene: &Scene) {
    play(scene, async |supervisor| {
        let mut shell = Shell::start(supervisor, &Sandbox::builder().build().unwrap(), "echo on").await;
        assert_eq!(shell.ask().await, "on");
        let injection = inject(supervisor, fault(FaultKind::Pause, NOW).pick(Pick::One)).await;
        applied(&injection).await;
        assert_eq!(shell.container.inspect().state, State::Paused);
        assert_eq!(shell.container.command("true").spawn().await.unwrap_err().kind(), ErrorKind::State);
        shell.send().await;
        drop(injection);
        assert_eq!(shell.line().await, "on");
        // It runs before it is said to: one that is still paused is not paused again.
        orangery::testing::wait_state(&shell.container, State::Running, wait::PATIENCE).await.unwrap();
        let again = inject(supervisor, fault(FaultKind::Pause, NOW).pick(Pick::All).lasting(Duration::from_millis(1)));
        let again = again.await;
        assert!(wait::soon("its end", again.saw("f", FaultStep::Reverted, 1)).await);
        assert_eq!(shell.ask().await, "on");
        assert!(again.end().await.left().is_empty());
    });
}

/// The files of this name in the groups of the scene that say anything of their own.
fn limits(scene: &Scene, names: &[&str]) -> Vec<(PathBuf, String)> {
    let files = scene.cgroups().into_iter().flat_map(|cgroup| names.iter().map(move |name| cgroup.join(name)));
    files.filter_map(|file| Some((file.clone(), std::fs::read_to_string(file).ok()?.trim().to_owned()))).collect()
}

fn starved_of_memory_it_recovers(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().memory(256 << 20).build().unwrap();
        // Said when all of them are gone: what the one in the middle holds would have to be reclaimed by who sets the limit.
        // The kernel may kill who counts as well: then nothing was counted.
        let eats = "n=$(head -c 40000000 /dev/zero | tail -c 40000000 | wc -c); echo ${n:-0}";
        let mut shell = Shell::start(supervisor, &sandbox, eats).await;
        assert_eq!(shell.ask().await, "40000000");
        let names = ["memory.max", "memory.limit_in_bytes"];
        let before = limits(scene, &names);
        let starved = FaultKind::StarveMemory { bytes: 16 << 20 };
        let injection = inject(supervisor, fault(starved, NOW).pick(Pick::All)).await;
        applied(&injection).await;
        assert_ne!(limits(scene, &names), before);
        assert_eq!(shell.ask().await, "0", "the one that eats was killed");
        assert!(injection.end().await.left().is_empty());
        assert_eq!(limits(scene, &names), before);
        assert_eq!(shell.ask().await, "40000000");
    });
}

fn starved_of_processes_it_recovers(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().pids(50).build().unwrap();
        let mut shell = Shell::start(supervisor, &sandbox, "(echo in) 2>&1 || exit").await;
        assert_eq!(shell.ask().await, "in");
        let before = limits(scene, &["pids.max"]);
        let lasting = |time| fault(FaultKind::StarvePids { most: 1 }, NOW).pick(Pick::All).lasting(time);
        let injection = inject(supervisor, lasting(Duration::from_millis(1))).await;
        assert!(wait::soon("its end", injection.saw("f", FaultStep::Reverted, 1)).await, "{:?}", injection.report());
        assert_eq!(limits(scene, &["pids.max"]), before);
        assert_eq!(shell.ask().await, "in");
        // What its owner sets meanwhile is not put back.
        let injection = inject(supervisor, lasting(Duration::from_secs(3600))).await;
        applied(&injection).await;
        let new = orangery::Limits { pids: Some(20), ..orangery::Limits::default() };
        shell.container.update(new).await.unwrap();
        assert!(injection.end().await.left().is_empty());
        assert!(limits(scene, &["pids.max"]).iter().any(|(_, limit)| limit == "20"));
        let injection = inject(supervisor, lasting(Duration::from_secs(3600))).await;
        applied(&injection).await;
        shell.send().await;
        let report = wait::soon("its end", shell.container.wait()).await.unwrap();
        assert!(report.cgroup.pids_refused.known().is_some_and(|refused| *refused > 0), "{report:?}");
        assert!(injection.end().await.left().is_empty());
    });
}

fn starved_of_a_processor_its_quota_comes_back(scene: &Scene) {
    play(scene, async |supervisor| {
        let sandbox = Sandbox::builder().cpus(0.9).build().unwrap();
        let mut shell = Shell::start(supervisor, &sandbox, "echo on").await;
        let names = ["cpu.max", "cpu.cfs_quota_us"];
        let before = limits(scene, &names);
        let injection = inject(supervisor, fault(FaultKind::StarveCpu { percent: 10 }, NOW).pick(Pick::All)).await;
        applied(&injection).await;
        let starved = limits(scene, &names);
        assert!(starved.iter().any(|(_, limit)| limit == "10000" || limit == "10000 100000"), "{starved:?}");
        assert_eq!(shell.ask().await, "on");
        drop(injection);
        let until = std::time::Instant::now() + wait::PATIENCE;
        while limits(scene, &names) != before {
            assert!(std::time::Instant::now() < until, "{:?} {before:?}", limits(scene, &names));
            tokio::task::yield_now().await;
        }
        // What it has no more of anyway is not given to it.
        let injection = inject(supervisor, fault(FaultKind::StarveCpu { percent: 95 }, NOW).pick(Pick::All)).await;
        assert!(wait::soon("a reason", injection.saw("f", FaultStep::Skipped, 1)).await);
        assert_eq!(limits(scene, &names), before);
    });
}

fn nobody_can_be_starved_without_a_cgroup(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).fault_points().without_cgroups().build().expect("a supervisor");
        let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
        let starved = FaultKind::StarveMemory { bytes: 16 << 20 };
        let injection = inject(&supervisor, fault(starved, NOW).pick(Pick::All)).await;
        assert!(wait::soon("a reason", injection.saw("f", FaultStep::Skipped, 1)).await);
        let why = injection.end().await.entries[1].why.clone().unwrap();
        assert!(why.contains("limits"), "{why}");
        drop(container);
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

fn a_stalled_writer_stands_still_and_loses_nothing(scene: &Scene) {
    play(scene, async |supervisor| {
        stalled(supervisor, |command| command).await;
        let dir = scene.dir().join("log");
        stalled(supervisor, |command| command.log(&dir, orangery::stream::log::LogOptions::default())).await;
    });
}

async fn stalled(supervisor: &Supervisor, into: impl Fn(orangery::Command) -> orangery::Command) {
    let stall = FaultKind::StallOutput { source: Source::Stdout };
    let injection = inject(supervisor, fault(stall, FIRST)).await;
    // More than a pipe and one read hold.
    let command = into(supervisor.command("head").arg("-c").arg("1000000").arg("/dev/zero"));
    let container = command.spawn().await.unwrap();
    applied(&injection).await;
    let output = container.stdout();
    assert!(container.inspect().report.is_none());
    assert_eq!(container.stream_metrics().bytes_in, 0);
    let report = injection.end().await;
    assert_eq!(report.of("f", FaultStep::Reverted).count(), 1, "{report:?}");
    let got = wait::soon("the output", output.collect(2_000_000)).await;
    assert_eq!(got.to_vec().len(), 1_000_000);
    assert!(wait::soon("its end", container.wait()).await.unwrap().success());
}

fn a_step_of_either_plan_fails(scene: &Scene) {
    play(scene, async |supervisor| {
        for (of, step) in [(PlanOf::Container, 2), (PlanOf::Main, 1)] {
            let injection =
                inject(supervisor, fault(FaultKind::FailStep { of, step }, Trigger::Spawn { nth: 2 })).await;
            let sound = supervisor.command("true").run().await.unwrap();
            assert!(sound.report.success());
            let error = supervisor.command("true").run().await.unwrap_err();
            let stage = error.stage().unwrap_or_default().to_owned();
            assert!(stage.starts_with(&format!("step {step} ")), "{error:?}");
            assert_eq!(error.kind(), ErrorKind::Creation);
            assert!(supervisor.command("true").run().await.unwrap().report.success());
            let report = injection.end().await;
            assert_eq!(report.of("f", FaultStep::Applied).count(), 1, "{report:?}");
        }
        let injection = inject(supervisor, fault(FaultKind::FailStep { of: PlanOf::Main, step: 9999 }, FIRST)).await;
        assert!(supervisor.command("true").run().await.unwrap().report.success());
        let report = injection.end().await;
        let skipped = report.of("f", FaultStep::Skipped).next().and_then(|entry| entry.why.clone());
        assert_eq!(skipped.as_deref(), Some("its plan has no such step"));
    });
}

fn an_exit_is_late_and_another(scene: &Scene) {
    play(scene, async |supervisor| {
        let plan = Plan::seeded(1)
            .fault(PlannedFault::new("late", FaultKind::LateExit, Trigger::Exit { nth: 1 }))
            .fault(PlannedFault::new("lie", FaultKind::OverrideExit { code: 7 }, Trigger::Exit { nth: 1 }));
        let injection = supervisor.inject(plan).await.unwrap();
        let container = supervisor.command("true").spawn().await.unwrap();
        assert_eq!(wait::soon("the exit", container.wait_exit()).await.unwrap(), ExitStatus::Code(0));
        assert!(wait::soon("the fault", injection.saw("late", FaultStep::Applied, 1)).await);
        assert!(container.inspect().report.is_none());
        let report = injection.end().await;
        assert!(report.left().is_empty());
        let report = wait::soon("the report", container.wait()).await.unwrap();
        assert_eq!((report.exit, report.cause.clone()), (ExitStatus::Code(7), Cause::Injected { fault: "lie".into() }));
    });
}

/// The victim: one container that works all the time, paused, and starved where that can be.
fn be_victim(scene: &Scene, lasts: Option<Duration>) -> bool {
    let Some(role) = victim::role() else { return false };
    scene.block_on(async {
        let builder = builder(scene).fault_points();
        let builder = if role == "stops" { builder.without_cgroups() } else { builder };
        let supervisor = builder.build().expect("a supervisor");
        let container = supervisor.command("sh").arg("-c").arg("while :; do :; done").spawn().await.unwrap();
        let mut pause = PlannedFault::new("f", FaultKind::Pause, NOW).pick(Pick::All);
        pause.lasts_ms = lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap());
        let starve = PlannedFault::new("starve", FaultKind::StarvePids { most: 1 }, NOW).pick(Pick::All);
        let injection = supervisor.inject(Plan::seeded(1).fault(starve).fault(pause)).await.unwrap();
        applied(&injection).await;
        println!("{}", container.pid());
        std::future::pending::<()>().await;
    });
    true
}

/// Processor time in ticks.
fn used(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Stopped by SIGSTOP while its pause lasts: the keeper ends it at its time.
fn a_stopped_injector_does_not_lengthen_a_pause(scene: &Scene) {
    if be_victim(scene, Some(Duration::from_secs(1))) {
        return;
    }
    outlasts_its_injector(scene, "pauses");
}

/// The same without a freezer, by SIGSTOP.
fn a_stopped_injector_does_not_lengthen_a_stop(scene: &Scene) {
    if be_victim(scene, Some(Duration::from_secs(1))) {
        return;
    }
    outlasts_its_injector(scene, "stops");
}

fn outlasts_its_injector(scene: &Scene, role: &str) {
    let mut victim = Victim::start(scene, role);
    let pid: u32 = victim.line().parse().expect("a pid");
    let injector = wait::pidfd(victim.pid());
    pidfd_send_signal(&injector, Signal::STOP).unwrap();
    let before = used(pid);
    let until = std::time::Instant::now() + wait::PATIENCE;
    while used(pid) == before {
        assert!(std::time::Instant::now() < until, "it is still paused");
        std::thread::yield_now();
    }
    pidfd_send_signal(&injector, Signal::CONT).unwrap();
    end(scene, &mut victim);
}

/// Killed by SIGKILL: what it had paused and starved is gone with everything else of it.
fn a_killed_injector_leaves_nothing(scene: &Scene) {
    if be_victim(scene, None) {
        return;
    }
    let mut victim = Victim::start(scene, "pauses");
    victim.line();
    end(scene, &mut victim);
}

fn end(scene: &Scene, victim: &mut Victim) {
    let family = victim.family();
    assert!(family.len() > 2, "{family:?}");
    victim.kill();
    for (process, pidfd) in &family {
        wait::gone(pidfd, &process.to_string());
    }
    reap_adopted();
    assert_eq!(descendants(std::process::id()), []);
    let stock = scene.stock();
    assert!(stock.cgroups.is_empty() && stock.files.is_empty(), "{stock:?}");
    let _ = std::fs::remove_dir(scene.state_dir());
}
