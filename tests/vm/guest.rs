//! The machine's own suite: what only pure v2 and an older kernel can show. Trials of the kit: each in a process of its
//! own, with a stock before and after.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use orangery_runtime::cgroup::{Ceiling, CpuQuota, Limits, Oom};
use orangery_runtime::native::exit_of;
use orangery_runtime::spec::{Access, Mount, Rootfs, Stdio, UserNamespace};
use orangery_runtime::{Container, ErrorKind, Evidence, ExitStatus, Pause, ProcessSpec, Started};
use orangery_tests::block::{Loop, writes_are_held_up};
use orangery_tests::host::{command, outcome, probe};
use orangery_tests::{Host, Outcome, Scene, main, trial, wait};

use crate::suites::USER;
use crate::user;

const MIB: u64 = 1 << 20;

/// The harness, or one trial of it. How long each took goes to the log: emulation makes some things slow.
pub(crate) fn run() -> ExitCode {
    let start = std::time::Instant::now();
    let code = trials();
    let what = std::env::var("ORANGERY_TRIAL").unwrap_or_else(|_| "all".into());
    let _ = fs::write(crate::boot::LOG, format!("{what} {} ms\n", start.elapsed().as_millis()));
    code
}

fn trials() -> ExitCode {
    main(&[
        trial!(v2_without_a_configured_parent),
        trial!(code_signal_and_usage_come_from_the_keeper),
        trial!(own_memory_limit),
        trial!(oom_of_a_grandchild),
        trial!(oom_kills_are_told_when_they_happen),
        trial!(oom_by_the_limit_above),
        trial!(oom_at_equal_limits_is_the_levels_above),
        trial!(oom_below_a_larger_limit_above),
        trial!(pids_limit_is_counted),
        trial!(cpu_quota_throttles),
        trial!(cpuset_holds),
        trial!(writes_wait_for_their_turn),
        trial!(memory_peak_and_limits_are_in_the_stats),
        trial!(limits_change_while_it_runs),
        trial!(a_process_with_limits_of_its_own),
        trial!(frozen_and_thawed),
        trial!(killed_while_frozen),
        trial!(the_group_is_killed_as_a_whole),
        trial!(the_command_as_pid_1),
        trial!(own_view_of_cgroups_and_proc),
        trial!(keeper_killed_exit_is_lost),
        trial!(keeper_killed_exit_is_known_to_a_subreaper),
        trial!(a_supervisor_with_umask_077),
        trial!(supervisor_killed_keeper_cleans_up),
        trial!(overlay_on_tmpfs),
        trial!(id_mapped_tmpfs_is_refused_before_6_3),
        trial!(id_mapped_ext4),
        trial!(overlay_over_id_mapped_ext4),
        trial!(a_hundred_leave_nothing),
        trial!(delegated_to_a_user),
        trial!(a_user_without_rights),
        trial!(a_user_without_cgroups),
    ])
}

/// At least this kernel; for what is different before it, not for what is needed.
fn kernel(major: u32, minor: u32) -> bool {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut parts = text.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (parts.next().expect("a major"), parts.next().expect("a minor")) >= (major, minor)
}

fn sh(script: &str) -> ProcessSpec {
    let mut process = command(&["/bin/busybox", "sh", "-c", script]);
    process.env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    process
}

async fn limited(host: &Host, limits: Limits, main: ProcessSpec) -> (Outcome, Evidence) {
    let mut spec = host.spec("limited");
    spec.limits = limits;
    host.life(spec, main).await
}

async fn begin(host: &Host, limits: Limits, main: ProcessSpec) -> (Box<dyn Container>, Started) {
    let mut spec = host.spec("c");
    spec.limits = limits;
    let container = host.create(spec, main).await.unwrap_or_else(|errors| panic!("create: {errors}"));
    let started = wait::soon("start", container.start()).await.expect("started");
    (container, started)
}

async fn end(container: &dyn Container) -> Evidence {
    let evidence = wait::soon("finish", container.finish()).await;
    wait::soon("delete", container.delete()).await.expect("deleted");
    evidence
}

/// `wait` of the probe, up and running; dropping the streams lets it go.
fn waiting() -> ProcessSpec {
    let mut process = probe(&["wait"]);
    process.stdin = Stdio::Piped;
    process
}

/// The probe has said "ready".
async fn ready(started: &mut Started) -> wait::Lines {
    let mut lines = wait::Lines::of(started.stdout.take().expect("a pipe"));
    assert_eq!(wait::soon("ready", lines.next()).await, "ready");
    lines
}

/// What a process says whose children live on with its streams, and its end.
async fn one_line(mut started: Started) -> serde_json::Value {
    let mut lines = wait::Lines::of(started.stdout.take().expect("a pipe"));
    let line = wait::soon("a line", lines.next()).await;
    assert_eq!(wait::soon("its end", started.exit).await.expect("an exit").status, ExitStatus::Code(0));
    serde_json::from_str(&line).expect("JSON")
}

fn memory(bytes: u64) -> Limits {
    Limits { memory: Some(bytes), ..Limits::default() }
}

fn signal(outcome: &Outcome) -> i32 {
    match outcome.exit.status {
        ExitStatus::Signal { signal, .. } => signal,
        other => panic!("{other:?}: {outcome:?}"),
    }
}

/// The one container's directory.
fn group(scene: &Scene, id: &str) -> PathBuf {
    let found = scene.cgroups().into_iter().find(|path| path.file_name().is_some_and(|name| name == id));
    found.unwrap_or_else(|| panic!("no group {id} in {:?}", scene.cgroups()))
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
}

fn v2_without_a_configured_parent(scene: &Scene) {
    let mut options = scene.options();
    options.cgroup_parent = None;
    scene.play_with(options, async |host| {
        assert_eq!(host.rt.cgroup_mode(), ("v2".into(), None));
        let (outcome, evidence) = limited(host, memory(64 * MIB), probe(&["true"])).await;
        assert_eq!((outcome.code(), evidence.cgroup_mode.as_str()), (0, "v2"));
        assert_eq!(evidence.oom, Oom::No);
    });
    assert!(!Path::new("/sys/fs/cgroup/orangery").exists());
}

fn code_signal_and_usage_come_from_the_keeper(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(host.once(host.spec("t"), probe(&["true"])).await.code(), 0);
        let ended = host.once(host.spec("e"), probe(&["exit", "37"])).await;
        assert_eq!(ended.code(), 37);
        assert!(ended.exit.rusage.is_some_and(|usage| usage.max_rss_kib > 0), "{:?}", ended.exit);
        for number in ["9", "15", "6"] {
            assert_eq!(signal(&host.once(host.spec("s"), probe(&["raise", number])).await).to_string(), number);
        }
        // The same question without the keeper: answered since 6.15, else typed as lost.
        let (container, started) = begin(host, Limits::default(), probe(&["exit", "3"])).await;
        let pidfd = Arc::clone(&started.pidfd);
        assert_eq!(outcome(started).await.code(), 3);
        let asked = wait::soon("exit_of", exit_of(pidfd)).await;
        let want = if kernel(6, 15) { ExitStatus::Code(3) } else { ExitStatus::Lost };
        assert_eq!(asked.status, want);
        end(&*container).await;
    });
}

fn own_memory_limit(scene: &Scene) {
    scene.play(async |host| {
        for memory_swap in [None, Some(0)] {
            let limits = Limits { memory_swap, ..memory(32 * MIB) };
            let (outcome, evidence) = limited(host, limits, probe(&["alloc", "64"])).await;
            assert_eq!(signal(&outcome), 9);
            assert_eq!(evidence.oom, Oom::Own { kills: 1 });
            assert_eq!(evidence.stats.oom_kills, Some(1));
            assert!(evidence.stats.memory_peak.is_some_and(|peak| peak > 30 * MIB && peak <= 32 * MIB), "{evidence:?}");
        }
        // A plain SIGKILL is none.
        let (outcome, evidence) = limited(host, memory(32 * MIB), probe(&["raise", "9"])).await;
        assert_eq!((signal(&outcome), evidence.oom), (9, Oom::No));
    });
}

fn oom_of_a_grandchild(scene: &Scene) {
    scene.play(async |host| {
        let main = sh("sh -c '/probe alloc 64; echo $?'; exit 0");
        let (outcome, evidence) = limited(host, memory(32 * MIB), main).await;
        assert_eq!((outcome.code(), outcome.out.trim()), (0, "137"), "{outcome:?}");
        assert_eq!(evidence.oom, Oom::Own { kills: 1 });
    });
}

/// A child for each line that it reads; whoever is too large is killed, and it goes on.
fn larger_and_larger() -> ProcessSpec {
    let mut main = sh("while read -r _; do /probe alloc 64; echo $?; done");
    main.stdin = Stdio::Piped;
    main
}

async fn one_more(input: &fs::File, lines: &mut wait::Lines) {
    std::io::Write::write_all(&mut &*input, b"\n").expect("written");
    assert_eq!(wait::soon("its end", lines.next()).await, "137");
}

/// By `memory.events` while everything runs; and whoever waits for another one is told of the end.
fn oom_kills_are_told_when_they_happen(scene: &Scene) {
    let parent = scene.cgroup_parents()[0].clone();
    scene.play(async |host| {
        for (own, limit_above) in [(32 * MIB, None), (256 * MIB, Some(32 * MIB))] {
            if let Some(limit) = limit_above {
                fs::write(parent.join("memory.max"), limit.to_string()).expect("a limit above");
            }
            let (container, mut started) = begin(host, memory(own), larger_and_larger()).await;
            let mut lines = wait::Lines::of(started.stdout.take().expect("a pipe"));
            let input = fs::File::from(started.stdin.take().expect("a pipe"));
            for seen in 0..3 {
                let verdict = match limit_above {
                    None => Oom::Own { kills: seen + 1 },
                    Some(_) => Oom::Ancestor { kills: seen + 1, path: Some(parent.display().to_string()) },
                };
                // Registered, and dropped again.
                let mut dropped = container.oom(seen);
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(dropped.as_mut().poll(cx)));
                assert!(polled.await.is_pending(), "there is none yet");
                drop(dropped);
                let told = tokio::spawn(container.oom(seen));
                one_more(&input, &mut lines).await;
                let (kills, found) = wait::soon("the news", told).await.expect("no panic").expect("told");
                assert_eq!((kills, found), (seen + 1, verdict));
            }
            // What has happened is told at once, and the end to who waits for more.
            assert_eq!(wait::soon("what was", container.oom(0)).await.expect("told").0, 3);
            let last = tokio::spawn(container.oom(3));
            drop((input, started));
            end(&*container).await;
            let error = wait::soon("the end", last).await.expect("no panic").expect_err("there is no fourth");
            assert_eq!(error.kind(), ErrorKind::State, "{error:?}");
            fs::write(parent.join("memory.max"), "max").expect("no limit above");
        }
    });
}

/// A limit on the trial's own group, above everything that the runtime makes.
async fn limited_above(scene: &Scene, host: &Host, above: u64, own: Option<u64>) -> Evidence {
    let parent = &scene.cgroup_parents()[0];
    fs::write(parent.join("memory.max"), above.to_string()).expect("a limit above");
    let limits = Limits { memory: own, ..Limits::default() };
    let (outcome, evidence) = limited(host, limits, probe(&["alloc", "64"])).await;
    assert_eq!(signal(&outcome), 9);
    let local = fs::read_to_string(parent.join("memory.events.local")).expect("events");
    println!("events above: {}", local.replace('\n', " "));
    fs::write(parent.join("memory.max"), "max").expect("no limit above");
    evidence
}

fn above(scene: &Scene) -> Oom {
    Oom::Ancestor { kills: 1, path: Some(scene.cgroup_parents()[0].display().to_string()) }
}

fn oom_by_the_limit_above(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(limited_above(scene, host, 32 * MIB, None).await.oom, above(scene));
        assert_eq!(limited_above(scene, host, 32 * MIB, Some(256 * MIB)).await.oom, above(scene));
    });
}

/// Both are full; the one above holds more than this container (the group's own kernel memory), so it is hit first.
fn oom_at_equal_limits_is_the_levels_above(scene: &Scene) {
    scene.play(async |host| {
        assert_eq!(limited_above(scene, host, 32 * MIB, Some(32 * MIB)).await.oom, above(scene));
    });
}

fn oom_below_a_larger_limit_above(scene: &Scene) {
    scene.play(async |host| {
        let evidence = limited_above(scene, host, 48 * MIB, Some(32 * MIB)).await;
        assert_eq!(evidence.oom, Oom::Own { kills: 1 });
    });
}

fn pids_limit_is_counted(scene: &Scene) {
    scene.play(async |host| {
        let limits = Limits { pids: Some(8), ..Limits::default() };
        let (container, started) = begin(host, limits, probe(&["forks", "100"])).await;
        let said = one_line(started).await;
        // The stub init and the probe are in the group too.
        assert_eq!((&said["errno"], &said["made"]), (&11.into(), &6.into()), "{said}");
        assert_eq!(container.stats().pids_limit, Some(Ceiling::At(8)));
        assert_eq!(end(&*container).await.stats.pids_refused, Some(1));
    });
}

fn cpu_quota_throttles(scene: &Scene) {
    scene.play(async |host| {
        let cpu_quota = Some(CpuQuota { quota_us: 20_000, period_us: 100_000 });
        let limits = Limits { cpu_quota, ..Limits::default() };
        let (outcome, evidence) = limited(host, limits, probe(&["burn", "200"])).await;
        let took = outcome.json()["wall_ms"].as_u64().expect("a number");
        assert!(took > 500, "{took} ms for 200 at a fifth of a CPU");
        assert!(evidence.stats.cpu_throttled_periods.is_some_and(|periods| periods >= 3), "{evidence:?}");
        assert!(evidence.stats.cpu_throttled_ns.is_some_and(|ns| ns > 100_000_000), "{evidence:?}");
    });
}

fn cpuset_holds(scene: &Scene) {
    scene.play(async |host| {
        for cpu in ["0", "1"] {
            let limits = Limits { cpuset_cpus: Some(cpu.into()), cpuset_mems: Some("0".into()), ..Limits::default() };
            let (outcome, _) = limited(host, limits, command(&["/bin/cat", "/proc/self/status"])).await;
            let allowed = outcome.out.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            assert_eq!((outcome.code(), allowed.map(str::trim)), (0, Some(cpu)), "{outcome:?}");
        }
        let mut spec = host.spec("bad");
        spec.limits.cpuset_cpus = Some("7".into());
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!(errors.0[0].field(), Some("limits.cpuset_cpus"), "{errors:?}");
    });
}

fn writes_wait_for_their_turn(scene: &Scene) {
    let device = Loop::new(scene.dir()).expect("a loop device");
    scene.play(async |host| {
        writes_are_held_up(&host.rt, device.path(), &|id, script| {
            let mut spec = host.spec(id);
            // Whose node it is may write to it.
            spec.user_namespace = UserNamespace::Host;
            (spec, user::sh(script))
        })
        .await;
    });
}

fn memory_peak_and_limits_are_in_the_stats(scene: &Scene) {
    scene.play(async |host| {
        let cpu_quota = Some(CpuQuota { quota_us: 500_000, period_us: 100_000 });
        let limits = Limits { pids: Some(16), cpu_quota, ..memory(64 * MIB) };
        let (container, mut started) = begin(host, limits, waiting()).await;
        let _lines = ready(&mut started).await;
        let stats = container.stats();
        assert_eq!((stats.memory_limit, stats.pids_limit), (Some(Ceiling::At(64 * MIB)), Some(Ceiling::At(16))));
        assert!(stats.memory_current.is_some_and(|bytes| bytes > 0) && stats.cpu_usage_ns.is_some_and(|ns| ns > 0));
        assert_eq!(stats.pids_current, Some(2));
        assert!(stats.memory_peak.is_some_and(|bytes| Some(bytes) >= stats.memory_current), "{stats:?}");
        assert!(stats.pids_peak.is_some_and(|count| count >= 2), "pids.peak is 6.1: {stats:?}");
        assert_eq!((stats.oom_kills, stats.pids_refused), (Some(0), Some(0)));
        end(&*container).await;
    });
}

fn limits_change_while_it_runs(scene: &Scene) {
    scene.play(async |host| {
        let (container, mut started) = begin(host, memory(32 * MIB), waiting()).await;
        let _lines = ready(&mut started).await;
        container.update(Limits { pids: Some(6), cpu_weight: Some(50), ..memory(128 * MIB) }).expect("updated");
        let dir = group(scene, "c");
        assert_eq!((read(&dir, "memory.max"), read(&dir, "pids.max")), ((128 * MIB).to_string(), "6".into()));
        assert_eq!(read(&dir, "cpu.weight"), "50");
        let more = wait::soon("exec", container.exec(probe(&["alloc", "64"]))).await.expect("more memory");
        assert_eq!(outcome(more).await.json()["touched_mib"], 64);
        let more = wait::soon("exec", container.exec(probe(&["forks", "50"]))).await.expect("fewer processes");
        assert_eq!(one_line(more).await["errno"], 11);
        let error = container.update(Limits { cpuset_cpus: Some("4000".into()), ..memory(48 * MIB) }).expect_err("bad");
        assert_eq!(error.field(), Some("limits.cpuset_cpus"), "{error:?}");
        assert_eq!(read(&dir, "memory.max"), (128 * MIB).to_string(), "all or nothing");
        assert_eq!(end(&*container).await.oom, Oom::No);
    });
}

/// No group with controllers for its children has processes itself: what is there moves into a leaf, and what is started
/// later is born there.
fn a_process_with_limits_of_its_own(scene: &Scene) {
    scene.play(async |host| {
        let (container, mut main) = begin(host, memory(64 * MIB), waiting()).await;
        let _said = ready(&mut main).await;
        let mut forks = probe(&["forks", "100"]);
        forks.limits.pids = Some(3);
        let mut started = wait::soon("exec", container.exec(forks)).await.expect("started");
        let forked = started.group.take().expect("a group");
        let said = one_line(started).await;
        assert_eq!((&said["errno"], &said["made"]), (&11.into(), &2.into()), "{said}");
        assert_eq!(forked.evidence().stats.pids_refused, Some(1));
        let mut hog = probe(&["alloc", "64"]);
        hog.limits = memory(16 * MIB);
        let mut started = wait::soon("exec", container.exec(hog)).await.expect("started");
        let group_of_hog = started.group.take().expect("a group");
        assert_eq!(signal(&outcome(started).await), 9);
        assert_eq!(group_of_hog.evidence().oom, Oom::Own { kills: 1 });
        drop((forked, group_of_hog));
        let dir = group(scene, "c");
        assert_eq!(read(&dir, "cgroup.procs"), "");
        let before = read(&dir.join("main"), "cgroup.procs").lines().count();
        let (_container, mut later) = (&container, container.exec(waiting()).await.expect("started"));
        let _said = ready(&mut later).await;
        assert_eq!(read(&dir.join("main"), "cgroup.procs").lines().count(), before + 1);
        // The first one's children live on in its group; the second one's is empty and gone.
        assert!(dir.join("exec-1").exists() && !dir.join("exec-2").exists());
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("frozen");
        wait::soon("resume", container.resume()).await.expect("thawed");
        end(&*container).await;
    });
}

fn frozen_and_thawed(scene: &Scene) {
    scene.play(async |host| {
        let (container, mut started) = begin(host, Limits::default(), waiting()).await;
        let _lines = ready(&mut started).await;
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("frozen");
        // It would end now.
        drop(started.stdin.take());
        let dir = group(scene, "c");
        assert!(read(&dir, "cgroup.events").contains("frozen 1"));
        let error = wait::soon("exec", container.exec(probe(&["true"]))).await.expect_err("it is paused");
        assert_eq!(error.kind(), ErrorKind::State);
        let runs_on = || wait::readable(&*started.pidfd, std::time::Duration::from_millis(250));
        assert!(!runs_on(), "it runs on");
        // What it has used until it was frozen is counted by now.
        let before = container.stats().cpu_usage_ns;
        assert!(!runs_on(), "it runs on");
        assert_eq!(container.stats().cpu_usage_ns, before, "it used CPU while frozen");
        wait::soon("resume", container.resume()).await.expect("thawed");
        assert!(read(&dir, "cgroup.events").contains("frozen 0"));
        assert_eq!(outcome(started).await.code(), 0);
        end(&*container).await;
    });
}

fn killed_while_frozen(scene: &Scene) {
    scene.play(async |host| {
        let (container, mut started) = begin(host, Limits::default(), probe(&["deaf"])).await;
        let _lines = ready(&mut started).await;
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("frozen");
        container.kill().expect("killed");
        assert_eq!(signal(&outcome(started).await), 9);
        end(&*container).await;
        let (container, _started) = begin(host, Limits::default(), probe(&["deaf"])).await;
        wait::soon("pause", container.pause(Pause::Freeze)).await.expect("frozen");
        // Deleting is enough.
        end(&*container).await;
    });
}

fn the_group_is_killed_as_a_whole(scene: &Scene) {
    scene.play(async |host| {
        let script =
            "/probe orphan; for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; /probe forks 20; echo ready; wait";
        let (container, mut started) = begin(host, Limits::default(), sh(script)).await;
        let mut lines = wait::Lines::of(started.stdout.take().expect("a pipe"));
        while wait::soon("ready", lines.next()).await != "ready" {}
        let dir = group(scene, "c");
        assert!(read(&dir, "cgroup.procs").lines().count() > 30);
        container.kill().expect("killed");
        assert_eq!(signal(&outcome(started).await), 9);
        let evidence = wait::soon("finish", container.finish()).await;
        assert_eq!(evidence.oom, Oom::No);
        // Nobody is left in it, so that it may be gone already.
        assert!(fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().is_empty());
        wait::soon("delete", container.delete()).await.expect("deleted");
        assert!(!dir.exists());
        // By dropping alone, and by shutdown alone.
        let (container, _started) = begin(host, Limits::default(), probe(&["deaf"])).await;
        drop(container);
        let mut spec = host.spec("kept");
        spec.limits = memory(32 * MIB);
        drop(host.create(spec, probe(&["deaf"])).await.expect("created"));
    });
}

fn the_command_as_pid_1(scene: &Scene) {
    scene.play(async |host| {
        let mut spec = host.spec("one");
        spec.without_init = true;
        spec.limits = memory(32 * MIB);
        let (outcome, evidence) = host.life(spec.clone(), probe(&["alloc", "64"])).await;
        assert_eq!((signal(&outcome), evidence.oom), (9, Oom::Own { kills: 1 }));
        let (outcome, evidence) = host.life(spec, probe(&["exit", "9"])).await;
        assert_eq!((outcome.code(), evidence.oom), (9, Oom::No));
    });
}

fn own_view_of_cgroups_and_proc(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&["/proc/kcore", "/proc/sys"], |_, _| {}).await;
        assert_eq!(seen["cgroup"], serde_json::json!(["0::/"]), "{}", seen["cgroup"]);
        let mounts = seen["mountinfo"].as_array().expect("lines").iter().filter_map(|line| line.as_str());
        let mounts: Vec<&str> = mounts.collect();
        let at = |target: &str, kind: &str| {
            let found = mounts.iter().find(|line| line.split(' ').nth(4) == Some(target) && line.contains(kind));
            found.unwrap_or_else(|| panic!("no {kind} at {target}: {mounts:#?}")).to_string()
        };
        at("/proc", "- proc ");
        assert!(at("/sys/fs/cgroup", "- cgroup2 ").split(' ').nth(5).is_some_and(|flags| flags.starts_with("ro")));
        // Numbers of this container only, and its pid 1.
        let (outcome, _) = limited(host, Limits::default(), sh("cat /proc/1/comm; ls -d /proc/[0-9]*")).await;
        assert!(outcome.out.starts_with("orangery-init\n") && outcome.out.lines().count() <= 4, "{outcome:?}");
        let (outcome, _) = limited(
            host,
            memory(64 * MIB),
            sh("cat /sys/fs/cgroup/memory.max; ! echo 1 2>/dev/null > /sys/fs/cgroup/cgroup.procs"),
        )
        .await;
        assert_eq!((outcome.code(), outcome.out.trim()), (0, (64 * MIB).to_string().as_str()), "{outcome:?}");
    });
}

/// The keeper is killed, then the container; what `exit_of` says, and that everything can still be removed.
async fn without_keeper(host: &Host) -> ExitStatus {
    let (container, mut started) = begin(host, memory(64 * MIB), waiting()).await;
    let _lines = ready(&mut started).await;
    wait::kill(wait::pidfd(host.rt.keeper_pid()));
    let told = wait::soon("the exit channel", &mut started.exit).await;
    assert!(told.is_err(), "nobody is left to tell it: {told:?}");
    container.kill().expect("killed without the keeper");
    let asked = wait::soon("exit_of", exit_of(Arc::clone(&started.pidfd))).await;
    end(&*container).await;
    let errors = host.refused(host.spec("next"), probe(&["true"])).await;
    assert_eq!(errors.0[0].kind(), ErrorKind::Keeper, "{errors:?}");
    asked.status
}

const KILLED: ExitStatus = ExitStatus::Signal { signal: 9, core_dumped: false };

/// The orphans fall to somebody else, who reaps them: before 6.15 nobody can know.
fn keeper_killed_exit_is_lost(scene: &Scene) {
    rustix::process::set_child_subreaper(None).expect("an ordinary process");
    scene.play(async |host| {
        let want = if kernel(6, 15) { KILLED } else { ExitStatus::Lost };
        assert_eq!(without_keeper(host).await, want);
    });
}

/// The orphans fall to us.
fn keeper_killed_exit_is_known_to_a_subreaper(scene: &Scene) {
    scene.play(async |host| assert_eq!(without_keeper(host).await, KILLED));
    reap_until_none();
}

/// Before 6.15 or so mounting cgroup2 asks for the right to walk to the group: our directories must not depend on the
/// supervisor's umask.
fn a_supervisor_with_umask_077(scene: &Scene) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    scene.play(async |host| assert_eq!(host.once(host.spec("u"), probe(&["true"])).await.code(), 0));
}

fn reap_until_none() {
    use rustix::process::{WaitOptions, wait};
    loop {
        match wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

fn supervisor_killed_keeper_cleans_up(scene: &Scene) {
    let parent = scene.options().cgroup_parent.expect("a parent");
    fs::write(scene.dir().join("parent"), parent.display().to_string()).expect("for the victim");
    let mut victim = user::start("victim", 0, None, scene.dir());
    let mut line = String::new();
    let mut out = std::io::BufReader::new(victim.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
    assert_eq!(line, "ready\n");
    assert!(read(&group(scene, "victim"), "cgroup.procs").lines().count() >= 3);
    let keepers = orangery_tests::stock::descendants(victim.id());
    let keeper = keepers.iter().find(|process| process.name == "orangery-keeper").expect("a keeper");
    let keeper = wait::pidfd(keeper.pid);
    wait::kill(wait::pidfd(victim.id()));
    victim.wait().expect("reaped");
    wait::gone(&keeper, "the keeper");
    reap_until_none();
    // The stock says the rest: no group, no process, no state.
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
}

/// The image, throw-away writes, and that it is unchanged.
async fn overlay(host: &Host, image: PathBuf, users: UserNamespace) {
    let mut spec = host.spec("o");
    spec.mounts.clear();
    spec.user_namespace = users;
    spec.rootfs = Rootfs::Dir { path: image.clone(), access: Access::Overlay };
    let script = "echo new > /etc/marker && cat /etc/marker && echo x > /made && ls -ln /etc/passwd";
    let outcome = host.once(spec, sh(script)).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.out.starts_with("new\n"), "{outcome:?}");
    assert_eq!(fs::read_to_string(image.join("etc/marker")).expect("marker"), "the image");
    assert!(!image.join("made").exists());
}

fn overlay_on_tmpfs(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| overlay(host, image, UserNamespace::Host).await);
}

fn id_mapped_tmpfs_is_refused_before_6_3(scene: &Scene) {
    let image = scene.image("image");
    scene.play(async |host| {
        let mut spec = host.spec("m");
        spec.mounts.clear();
        spec.rootfs = Rootfs::Dir { path: image, access: Access::ReadOnly };
        if kernel(6, 3) {
            assert_eq!(host.once(spec, sh("cat /etc/marker")).await.out, "the image");
            return;
        }
        let errors = host.refused(spec, sh("cat /etc/marker")).await;
        let error = &errors.0[0];
        assert_eq!((error.kind(), error.field()), (ErrorKind::Unsupported, Some("rootfs")), "{error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--userns host")), "{error:?}");
        // A bind whose file system cannot do it is mounted without, and can be read.
        let bound = scene.dir().join("bound");
        fs::create_dir(&bound).expect("a directory");
        fs::write(bound.join("text"), "bound").expect("a file");
        let mut spec = host.spec("b");
        spec.mounts.push(Mount::bind(bound, "/mnt").read_only());
        let outcome = host.once(spec, sh("cat /mnt/text; ! echo x 2>/dev/null > /mnt/text")).await;
        assert_eq!((outcome.code(), outcome.out.as_str()), (0, "bound"), "{outcome:?}");
    });
}

/// An image on the ext4 file system of the machine, removed again by [`Gone`].
fn image_on_ext4(scene: &Scene) -> Gone {
    let from = scene.image("image");
    let to = Path::new("/ext4").join(scene.name());
    copy(&from, &to);
    Gone(to)
}

struct Gone(PathBuf);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Directories, files, links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a directory");
    for entry in fs::read_dir(from).expect("the image").map(|entry| entry.expect("an entry")) {
        let (kind, target) = (entry.file_type().expect("its type"), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).expect("a link"), target).expect("a copy");
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn id_mapped_ext4(scene: &Scene) {
    let image = image_on_ext4(scene);
    scene.play(async |host| {
        let mut spec = host.spec("m");
        spec.mounts.clear();
        spec.rootfs = Rootfs::Dir { path: image.0.clone(), access: Access::ReadWrite };
        let outcome = host.once(spec, sh("ls -ln /etc/passwd; cat /proc/self/uid_map; echo x > /etc/kept")).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        let words: Vec<&str> = outcome.out.split_whitespace().collect();
        assert_eq!((words[2], words[3]), ("0", "0"), "root's file is root's inside: {}", outcome.out);
        assert!(outcome.out.contains("65536"), "a range of its own: {}", outcome.out);
        let kept = fs::metadata(image.0.join("etc/kept")).expect("written");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&kept), 0, "and outside");
    });
}

fn overlay_over_id_mapped_ext4(scene: &Scene) {
    let image = image_on_ext4(scene);
    scene.play(async |host| overlay(host, image.0.clone(), UserNamespace::Own).await);
}

fn a_hundred_leave_nothing(scene: &Scene) {
    scene.play(async |host| {
        let again = async || assert_eq!(host.once(host.spec("n"), probe(&["true"])).await.code(), 0);
        again().await;
        let before = scene.stock();
        for _ in 0..100 {
            again().await;
        }
        let mut left = before.left_over(&scene.stock());
        // Blocking threads of tokio end after a while, and a dead process that the keeper is about to reap is none.
        left.retain(|line| !line.starts_with("threads") && !line.ends_with(" Z"));
        assert!(left.is_empty(), "{left:#?}");
    });
}

fn give(path: &Path) {
    chown(path, Some(USER), Some(USER)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A group of the trial, as an administrator would delegate it: the directory and the files of
/// `/sys/kernel/cgroup/delegate`.
fn delegate(scene: &Scene, owned: bool) -> PathBuf {
    let parent = &scene.cgroup_parents()[0];
    // Not all: what systemd gives an ordinary user.
    for controller in ["+memory", "+pids"] {
        fs::write(parent.join("cgroup.subtree_control"), controller).expect("a controller");
    }
    let dir = parent.join("user");
    fs::create_dir(&dir).expect("a group");
    if owned {
        give(&dir);
        for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            give(&dir.join(file));
        }
    }
    dir
}

fn delegated_to_a_user(scene: &Scene) {
    let group = delegate(scene, true);
    user::passes("delegated", USER, Some(&group), scene.dir());
    let left: Vec<_> = fs::read_dir(&group).expect("the group").flatten().filter(|e| e.path().is_dir()).collect();
    assert!(left.len() == 1, "only the leaf: {left:?}");
    fs::remove_dir(group.join("orangery-self")).expect("the leaf is empty");
    fs::remove_dir(group).expect("nothing is in it");
}

fn a_user_without_rights(scene: &Scene) {
    let group = delegate(scene, false);
    user::passes("no-rights", USER, Some(&group), scene.dir());
    fs::remove_dir(group).expect("nothing is in it");
}

fn a_user_without_cgroups(scene: &Scene) {
    let dir = scene.dir().join("mine");
    fs::create_dir(&dir).expect("a directory");
    fs::rename(scene.image("image"), dir.join("image")).expect("an image");
    give_all(&dir);
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("its mode");
    user::passes("rootless", USER, None, &dir);
}

fn give_all(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).expect("an owner");
    if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        fs::read_dir(path).expect("a directory").flatten().for_each(|entry| give_all(&entry.path()));
    }
}
