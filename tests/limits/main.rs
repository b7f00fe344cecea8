//! Limits: what happens when they are reached, who is told, and that they hold for exec'd processes too.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

use std::process::ExitCode;

use orangery_runtime::cgroup::{CpuQuota, Limits, Oom, Source};
use orangery_runtime::spec::{Disk, Stdio};
use orangery_runtime::{ErrorKind, ExitStatus, Pause};
use orangery_tests::host::{outcome, probe};
use orangery_tests::wait::{self, Lines};
use orangery_tests::{Scene, trial};

mod executes;
mod io;
mod without;

fn main() -> ExitCode {
    let mut trials = vec![
        trial!(memory_ends_in_an_oom_kill_of_its_own_limit, Memory),
        trial!(memory_below_the_limit_is_no_oom, Memory),
        trial!(a_plain_kill_is_no_oom, Memory),
        trial!(an_execs_oom_kill_leaves_the_container, Memory),
        trial!(tmpfs_counts_as_memory, Memory),
        trial!(the_number_of_processes, Pids),
        trial!(a_fork_bomb_dies_with_the_container, Pids),
        trial!(the_smallest_number_of_processes, Pids),
        trial!(cpu_time, Cpu),
        trial!(disk_and_inodes),
        trial!(the_private_directories_share_one_budget),
        trial!(pause_and_resume, Freezer),
        trial!(a_pause_a_resume_and_an_exec_at_once, Freezer),
        trial!(killed_and_deleted_while_paused, Freezer),
        trial!(dropped_while_paused, Freezer),
        trial!(exec_while_paused_is_refused, Freezer),
        trial!(limits_of_a_running_container, Memory, Pids),
        trial!(counters, Cgroups),
        trial!(too_little_memory_is_an_error_and_leaves_nothing, Memory),
        trial!(wrong_limits_are_refused_by_field),
    ];
    trials.extend(executes::trials());
    trials.extend(io::trials());
    trials.extend(without::trials());
    orangery_tests::main(&trials)
}

pub(crate) const MIB: u64 = 1 << 20;

fn memory_ends_in_an_oom_kill_of_its_own_limit(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("oom");
            spec.without_init = without_init;
            spec.limits.memory = Some(16 * MIB);
            let (outcome, evidence) = host.life(spec, probe(&["alloc", "64"])).await;
            assert_eq!(outcome.exit.status, ExitStatus::Signal { signal: 9, core_dumped: false }, "{outcome:?}");
            assert!(matches!(evidence.oom, Oom::Own { kills } if kills >= 1), "{evidence:?}");
            assert!(evidence.stats.memory_peak.is_none_or(|peak| peak <= 16 * MIB), "{evidence:?}");
            assert!(evidence.stats.oom_kills >= Some(1), "{evidence:?}");
        }
    });
}

fn memory_below_the_limit_is_no_oom(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("fits");
        spec.limits.memory = Some(64 * MIB);
        let (outcome, evidence) = host.life(spec, probe(&["alloc", "16"])).await;
        assert_eq!((outcome.json()["touched_mib"].as_u64(), evidence.oom), (Some(16), Oom::No));
        assert!(evidence.stats.memory_peak.is_none_or(|peak| peak >= 16 * MIB), "{:?}", evidence.stats);
    });
}

fn a_plain_kill_is_no_oom(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("killed");
        spec.limits.memory = Some(64 * MIB);
        let (outcome, evidence) = host.life(spec, probe(&["raise", "9"])).await;
        assert_eq!(
            (outcome.exit.status, evidence.oom),
            (ExitStatus::Signal { signal: 9, core_dumped: false }, Oom::No)
        );
    });
}

fn an_execs_oom_kill_leaves_the_container(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("exec-oom");
        spec.limits.memory = Some(16 * MIB);
        let container = host.create(spec, probe(&["true"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let eaten = outcome(container.exec(probe(&["alloc", "64"])).await.expect("exec")).await;
        assert_eq!(eaten.exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        assert_eq!(
            outcome(container.exec(probe(&["exit", "6"])).await.expect("exec")).await.code(),
            6,
            "the stub was not chosen"
        );
        assert!(matches!(container.finish().await.oom, Oom::Own { .. }));
        container.delete().await.expect("deleted");
    });
}

fn tmpfs_counts_as_memory(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("tmpfs");
        spec.limits.memory = Some(16 * MIB);
        let (outcome, evidence) = host.life(spec, probe(&["fill", "/tmp/x"])).await;
        assert_eq!(outcome.exit.status, ExitStatus::Signal { signal: 9, core_dumped: false }, "{outcome:?}");
        assert!(matches!(evidence.oom, Oom::Own { .. }), "{evidence:?}");
    });
}

fn the_number_of_processes(scene: &Scene) {
    scene.play(async |host| {
        for without_init in [false, true] {
            let mut spec = host.spec("pids");
            spec.without_init = without_init;
            spec.limits.pids = Some(20);
            let (outcome, evidence) = host.life(spec, probe(&["forks", "100"])).await;
            let said = outcome.json();
            // The probe itself counts, and the stub.
            let room = if without_init { 19 } else { 18 };
            assert_eq!((said["made"].as_u64(), said["errno"].as_i64()), (Some(room), Some(libc::EAGAIN.into())));
            assert!(evidence.stats.pids_refused.is_none_or(|refused| refused >= 1), "{evidence:?}");
        }
    });
}

fn a_fork_bomb_dies_with_the_container(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("bomb");
        spec.limits.pids = Some(500);
        let container = host.create(spec, probe(&["forks", "1000"])).await.expect("created");
        let started = container.start().await.expect("started");
        let init = container.init_pid().cast_unsigned();
        outcome(started).await;
        let children: Vec<_> = orangery_tests::stock::descendants(init)
            .into_iter()
            .filter_map(|process| wait::try_pidfd(process.pid))
            .collect();
        assert!(children.len() > 490, "{}", children.len());
        container.delete().await.expect("deleted");
        for child in children {
            assert!(wait::readable(&child, std::time::Duration::ZERO), "one is alive after delete");
        }
    });
}

fn the_smallest_number_of_processes(scene: &Scene) {
    scene.play(async |host| {
        for (pids, works) in [(1, false), (2, true)] {
            let mut spec = host.spec("few");
            spec.limits.pids = Some(pids);
            match host.create(spec, probe(&["exit", "3"])).await {
                Ok(container) => {
                    match container.start().await {
                        Ok(started) => assert_eq!(outcome(started).await.code(), 3),
                        Err(error) => assert!(!works && error.kind() == ErrorKind::Exhausted, "{pids}: {error:?}"),
                    }
                    container.delete().await.expect("deleted");
                }
                Err(errors) => assert!(!works && errors.0[0].kind() == ErrorKind::Exhausted, "{pids}: {errors:?}"),
            }
        }
    });
}

fn cpu_time(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("cpu");
        spec.limits.cpu_quota = Some(CpuQuota { quota_us: 10_000, period_us: 100_000 });
        let (outcome, evidence) = host.life(spec, probe(&["burn", "80"])).await;
        let took = outcome.json()["wall_ms"].as_u64().expect("wall_ms");
        assert!(took > 400, "{took} ms for 80 at a tenth");
        assert!(evidence.stats.cpu_throttled_periods.is_none_or(|periods| periods > 0), "{evidence:?}");
    });
}

fn disk_and_inodes(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("disk");
        spec.disk = Disk { bytes: 4 * MIB, inodes: 200 };
        let said = host.once(spec.clone(), probe(&["fill", "/tmp/x"])).await.json();
        assert_eq!(said["errno"], libc::ENOSPC);
        assert!(said["bytes"].as_u64().is_some_and(|bytes| bytes <= 4 * MIB && bytes > 3 * MIB), "{said}");
        let said = host.once(spec, probe(&["inodes", "/var"])).await.json();
        assert_eq!(said["errno"], libc::ENOSPC);
        assert!(said["made"].as_u64().is_some_and(|made| made < 200 && made > 100), "{said}");
    });
}

fn the_private_directories_share_one_budget(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("share");
        spec.disk = Disk { bytes: 4 * MIB, inodes: 200 };
        let container = host.create(spec, probe(&["fill", "/tmp/x"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        for path in ["/var/y", "/run/y", "/home/y", "/root/y", "/dev/shm/y", "/tmp/y"] {
            let said = outcome(container.exec(probe(&["fill", path])).await.expect("exec")).await.json();
            assert_eq!((&said["bytes"], &said["errno"]), (&0.into(), &libc::ENOSPC.into()), "{path}");
        }
        container.delete().await.expect("deleted");
    });
}

fn pause_and_resume(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Piped;
        let container = host.create(host.spec("pause"), main).await.expect("created");
        let mut started = container.start().await.expect("started");
        for _ in 0..3 {
            wait::soon("pause", container.pause(Pause::Freeze)).await.expect("paused");
            wait::soon("pause", container.pause(Pause::Freeze)).await.expect("paused already");
            wait::soon("resume", container.resume()).await.expect("resumed");
            wait::soon("resume", container.resume()).await.expect("resumed already");
        }
        // Paused it does not answer; resumed it does.
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("paused");
        let stdin = started.stdin.take().expect("stdin");
        rustix::io::write(&stdin, b"hello\n").expect("written");
        let stdout = started.stdout.take().expect("stdout");
        assert!(!wait::readable(&stdout, std::time::Duration::from_millis(50)), "a paused process wrote");
        wait::soon("resume", container.resume()).await.expect("resumed");
        assert_eq!(Lines::of(stdout).next().await, "hello");
        drop(stdin);
        outcome(started).await;
        container.delete().await.expect("deleted");
    });
}

/// One after the other, in the order in which they were asked for: nothing is born frozen, and nothing waits for ever.
fn a_pause_a_resume_and_an_exec_at_once(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("races"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        for _ in 0..50 {
            let all = async {
                tokio::join!(container.pause(Pause::Freeze), container.exec(probe(&["true"])), container.resume())
            };
            let (paused, executed, resumed) = wait::soon("all three", all).await;
            paused.expect("paused");
            resumed.expect("resumed");
            match executed {
                Ok(executed) => assert_eq!(outcome(executed).await.code(), 0),
                Err(error) => assert_eq!(error.kind(), ErrorKind::State, "{error:?}"),
            }
        }
        container.delete().await.expect("deleted");
        drop(started);
    });
}

fn killed_and_deleted_while_paused(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("paused"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("paused");
        container.kill().expect("killed");
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
}

fn dropped_while_paused(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("dropped"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        wait::soon("pause", container.pause(Pause::Any)).await.expect("paused");
        assert_eq!(container.paused(), Some(Pause::Freeze), "there is a freezer");
        drop(container);
        wait::soon("its end", started.exit).await.expect("an exit");
    });
}

fn exec_while_paused_is_refused(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("paused"), probe(&["true"])).await.expect("created");
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("paused");
        assert_eq!(container.exec(probe(&["true"])).await.expect_err("paused").kind(), ErrorKind::State);
        // Not started yet, and paused: the same refusal, or a start that waits; never a hang.
        wait::soon("resume", container.resume()).await.expect("resumed");
        assert_eq!(outcome(container.start().await.expect("started")).await.code(), 0);
        container.delete().await.expect("deleted");
    });
}

fn limits_of_a_running_container(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("update");
        spec.limits.memory = Some(16 * MIB);
        spec.limits.pids = Some(10);
        let container = host.create(spec, probe(&["true"])).await.expect("created");
        let fits = async |args: &[&str]| outcome(container.exec(probe(args)).await.expect("exec")).await;
        assert_eq!(fits(&["alloc", "32"]).await.exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        let mut more = Limits { memory: Some(64 * MIB), pids: Some(30), ..Limits::default() };
        container.update(more.clone()).expect("updated");
        assert_eq!(fits(&["alloc", "32"]).await.json()["touched_mib"], 32);
        assert_eq!(fits(&["forks", "100"]).await.json()["made"], 28);
        more.pids = Some(0);
        let error = container.update(more).expect_err("no such limit");
        assert_eq!(error.field(), Some("limits.pids"), "{error:?}");
        let stats = container.stats();
        assert!(stats.pids_current >= Some(28), "{stats:?}");
        container.finish().await;
        assert_eq!(container.update(Limits::default()).expect_err("ended").kind(), ErrorKind::State);
        container.delete().await.expect("deleted");
    });
}

fn counters(scene: &Scene) {
    scene.play(async |host| {
        let container = host.create(host.spec("stats"), probe(&["burn", "50"])).await.expect("created");
        let before = container.stats();
        assert_eq!(before.source, Some(Source::Cgroup));
        outcome(container.start().await.expect("started")).await;
        let after = container.stats();
        if let (Some(before), Some(after)) = (before.cpu_usage_ns, after.cpu_usage_ns) {
            assert!(after > before + 40_000_000, "{before} {after}");
        }
        let evidence = container.finish().await;
        assert_eq!(container.stats(), evidence.stats, "the last reading stays");
        assert_eq!(evidence.cgroup_mode, host.rt.cgroup_mode().0);
        container.delete().await.expect("deleted");
        assert_eq!(container.stats(), evidence.stats, "and after the delete");
    });
}

fn too_little_memory_is_an_error_and_leaves_nothing(scene: &Scene) {
    scene.play(async |host| {
        for kib in [512, 600, 700, 800, 1000, 1200, 1500] {
            let mut spec = host.spec("tiny");
            spec.limits.memory = Some(kib << 10);
            match host.create(spec, probe(&["true"])).await {
                Ok(container) => {
                    if let Ok(started) = wait::soon("start", container.start()).await {
                        outcome(started).await;
                    }
                    wait::soon("delete", container.delete()).await.expect("deleted");
                }
                Err(errors) => {
                    assert!(
                        matches!(errors.0[0].kind(), ErrorKind::Creation | ErrorKind::Exhausted),
                        "{kib} KiB: {errors:?}"
                    );
                }
            }
            assert!(scene.cgroups().iter().all(|dir| !dir.ends_with("tiny")), "{kib} KiB: {:?}", scene.cgroups());
        }
    });
}

fn wrong_limits_are_refused_by_field(scene: &Scene) {
    scene.play(async |host| {
        let wrong: [(&str, Limits); 6] = [
            ("limits.memory", Limits { memory: Some(1), ..Limits::default() }),
            ("limits.pids", Limits { pids: Some(0), ..Limits::default() }),
            (
                "limits.cpu_quota",
                Limits { cpu_quota: Some(CpuQuota { quota_us: 1, period_us: 100_000 }), ..Limits::default() },
            ),
            ("limits.cpu_weight", Limits { cpu_weight: Some(0), ..Limits::default() }),
            ("limits.cpuset_cpus", Limits { cpuset_cpus: Some("1-0".into()), ..Limits::default() }),
            ("limits.cpuset_mems", Limits { cpuset_mems: Some("x".into()), ..Limits::default() }),
        ];
        for (field, limits) in wrong {
            let mut spec = host.spec("wrong");
            spec.limits = limits;
            let errors = host.refused(spec, probe(&["true"])).await;
            assert!(errors.0.iter().any(|error| error.field() == Some(field)), "{field}: {errors:?}");
        }
    });
}
