//! Without a cgroup: what holds in the place of limits, and what is known of the processes.

use orangery_runtime::cgroup::{CpuQuota, Limits, Oom, Source};
use orangery_runtime::native::Options;
use orangery_runtime::spec::{Enforcement, Resource, Stdio, UnmetLimit, UserNamespace};
use orangery_runtime::{ContainerSpec, ErrorKind, ExitStatus, Pause};
use orangery_tests::host::{outcome, probe};
use orangery_tests::{Host, Scene, Trial, trial, wait};

use super::MIB;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_limit_without_a_cgroup_is_refused),
        trial!(no_cgroups_at_all),
        trial!(what_cannot_be_had_is_done_without_and_named),
        trial!(rlimits_in_the_place_of_limits_hold_for_every_process),
        trial!(processes_of_the_hosts_users_are_not_limited_by_their_number, Root),
        trial!(a_limit_of_its_own_is_not_replaced),
        trial!(an_update_does_without_as_well),
        trial!(nonsense_is_refused_whatever_is_required),
        trial!(what_is_used_is_looked_up_in_proc),
        trial!(a_pause_takes_what_there_is),
    ]
}

fn none(scene: &Scene) -> Options {
    let mut options = scene.options();
    options.no_cgroups = true;
    options
}

/// All of them, of a container that does without.
fn modest(host: &Host, id: &str) -> ContainerSpec {
    let mut spec = host.spec(id);
    let quota = CpuQuota { quota_us: 50_000, period_us: 100_000 };
    spec.limits = Limits { memory: Some(64 * MIB), pids: Some(20), cpu_quota: Some(quota), ..Limits::default() };
    spec.enforcement = Enforcement::BestEffort;
    spec
}

fn instead(unmet: &[UnmetLimit], limit: &str) -> Option<(Resource, u64)> {
    let found = unmet.iter().find(|unmet| unmet.limit == limit).expect("named");
    assert!(!found.why.is_empty(), "{found:?}");
    found.instead.as_ref().map(|it| (it.rlimit.resource, it.rlimit.hard))
}

fn a_limit_without_a_cgroup_is_refused(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let mut spec = host.spec("limited");
        spec.limits.memory = Some(64 * MIB);
        let errors = host.refused(spec, probe(&["true"])).await;
        assert_eq!((errors.0[0].kind(), errors.0[0].field()), (ErrorKind::Unsupported, Some("limits.memory")));
        assert!(errors.0[0].hint().is_some());
    });
}

fn no_cgroups_at_all(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        assert_eq!(host.rt.cgroup_mode().0, "none");
        let container = host.create(host.spec("bare"), probe(&["forks", "20"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        assert!(scene.cgroups().is_empty());
        assert!(container.unmet().is_empty(), "nothing was asked for");
        assert_eq!(container.pause(Pause::Freeze).await.expect_err("no freezer").kind(), ErrorKind::Unsupported);
        let evidence = container.finish().await;
        assert!(matches!(evidence.oom, Oom::Unknown { .. }), "{evidence:?}");
        container.delete().await.expect("deleted");
    });
}

fn what_cannot_be_had_is_done_without_and_named(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        for without_init in [false, true] {
            let mut spec = modest(host, "modest");
            spec.without_init = without_init;
            let container = host.create(spec, probe(&["raise", "9"])).await.expect("created");
            let unmet = container.unmet();
            assert_eq!(unmet.len(), 3, "{unmet:?}");
            assert_eq!(instead(&unmet, "memory"), Some((Resource::As, 64 * MIB)));
            assert_eq!(instead(&unmet, "pids"), Some((Resource::Nproc, 20)));
            assert_eq!(instead(&unmet, "cpu_quota"), None);
            outcome(container.start().await.expect("started")).await;
            // Whoever killed it: there is nobody who could say that it was not the OOM killer.
            assert!(matches!(container.finish().await.oom, Oom::Unknown { why } if !why.is_empty()));
            container.delete().await.expect("deleted");
        }
    });
}

fn rlimits_in_the_place_of_limits_hold_for_every_process(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let container = host.create(modest(host, "held"), probe(&["alloc", "100"])).await.expect("created");
        let main = outcome(container.start().await.expect("started")).await;
        // Memory is not given: who does not look at that aborts.
        assert!(matches!(main.exit.status, ExitStatus::Signal { signal: 6, .. }), "{main:?}");
        let further = async |args: &[&str]| outcome(container.exec(probe(args)).await.expect("exec")).await;
        let eaten = further(&["alloc", "100"]).await;
        assert!(matches!(eaten.exit.status, ExitStatus::Signal { signal: 6, .. }), "{eaten:?}");
        assert_eq!(further(&["alloc", "16"]).await.json()["touched_mib"], 16);
        // The process between the keeper and it is of the same user as well, and is gone when this returns: until then nothing is forked.
        let mut forks = probe(&["forks", "100"]);
        forks.stdin = Stdio::Piped;
        let said = outcome(container.exec(forks).await.expect("exec")).await.json();
        // The stub and the probe itself are of the same user.
        assert_eq!((said["made"].as_u64(), said["errno"].as_i64()), (Some(18), Some(libc::EAGAIN.into())));
        container.delete().await.expect("deleted");
    });
}

/// The kernel exempts root of the host, and any other user of it has processes elsewhere.
fn processes_of_the_hosts_users_are_not_limited_by_their_number(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let mut spec = modest(host, "hosts");
        spec.user_namespace = UserNamespace::Host;
        let container = host.create(spec, probe(&["true"])).await.expect("created");
        assert_eq!(instead(&container.unmet(), "pids"), None);
        container.delete().await.expect("deleted");
    });
}

fn a_limit_of_its_own_is_not_replaced(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let mut main = probe(&["alloc", "100"]);
        main.rlimits.push("as=1G".parse().expect("a limit"));
        let container = host.create(modest(host, "own"), main).await.expect("created");
        assert_eq!(instead(&container.unmet(), "memory"), None);
        let main = outcome(container.start().await.expect("started")).await;
        assert_eq!(main.json()["touched_mib"], 100);
        container.delete().await.expect("deleted");
    });
}

fn an_update_does_without_as_well(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let container = host.create(modest(host, "update"), probe(&["true"])).await.expect("created");
        let to = Limits { memory: Some(256 * MIB), cpu_weight: Some(7), ..Limits::default() };
        let unmet = container.update(to).expect("done without");
        assert_eq!(instead(&unmet, "memory"), Some((Resource::As, 256 * MIB)));
        assert_eq!((unmet.len(), instead(&unmet, "cpu_weight")), (2, None));
        let eaten = outcome(container.exec(probe(&["alloc", "100"])).await.expect("exec")).await;
        assert_eq!(eaten.json()["touched_mib"], 100, "one that is started from now on");
        let all = container.unmet();
        assert_eq!((all.len(), instead(&all, "pids")), (4, Some((Resource::Nproc, 20))), "{all:?}");
        let refused = container.update(Limits { pids: Some(0), ..Limits::default() }).expect_err("nonsense");
        assert_eq!(refused.field(), Some("limits.pids"));
        container.delete().await.expect("deleted");
        // Where it is required, it is.
        let mut spec = host.spec("later");
        spec.enforcement = Enforcement::BestEffort;
        let container = host.create(spec, probe(&["true"])).await.expect("created");
        let unmet = container.update(Limits { pids: Some(9), ..Limits::default() }).expect("done without");
        assert_eq!(instead(&unmet, "pids"), Some((Resource::Nproc, 9)));
        assert!(unmet[0].why.contains("switched off"), "the reason: {unmet:?}");
        container.delete().await.expect("deleted");
        let container = host.create(host.spec("required"), probe(&["true"])).await.expect("created");
        let refused = container.update(Limits { pids: Some(9), ..Limits::default() }).expect_err("required");
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Unsupported, Some("limits.pids")));
        container.delete().await.expect("deleted");
    });
}

fn nonsense_is_refused_whatever_is_required(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let mut spec = modest(host, "nonsense");
        spec.limits.cpuset_cpus = Some("3-1".into());
        spec.limits.pids = Some(0);
        let errors = host.refused(spec, probe(&["true"])).await;
        let fields: Vec<_> = errors.0.iter().filter_map(|error| error.field()).collect();
        assert_eq!(fields, ["limits.pids", "limits.cpuset_cpus"]);
    });
}

fn what_is_used_is_looked_up_in_proc(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let container = host.create(host.spec("used"), probe(&["forks", "20"])).await.expect("created");
        outcome(container.start().await.expect("started")).await;
        let stats = container.stats();
        // The stub, and those that the command has left behind.
        assert_eq!((stats.source, stats.processes, stats.pids_current), (Some(Source::Proc), Some(21), Some(21)));
        assert!(stats.memory_rss > Some(0) && stats.cpu_usage_ns.is_some(), "{stats:?}");
        let unknown =
            [stats.memory_current, stats.memory_peak, stats.oom_kills, stats.pids_refused, stats.swap_current];
        assert_eq!(unknown, [None; 5]);
        container.finish().await;
        assert_eq!(container.stats().source, None, "nobody has counted, and nobody lives");
        container.delete().await.expect("deleted");
    });
}

fn a_pause_takes_what_there_is(scene: &Scene) {
    scene.play_with(none(scene), async |host| {
        let container = host.create(host.spec("paused"), probe(&["deaf"])).await.expect("created");
        let started = container.start().await.expect("started");
        wait::soon("pause", container.pause(Pause::Any)).await.expect("paused");
        assert_eq!(container.paused(), Some(Pause::Stop));
        assert!(Pause::Stop.weakness().is_some() && Pause::Freeze.weakness().is_none());
        assert_eq!(container.exec(probe(&["true"])).await.expect_err("paused").kind(), ErrorKind::State);
        wait::soon("resume", container.resume()).await.expect("resumed");
        assert_eq!(container.paused(), None);
        wait::soon("pause", container.pause(Pause::Any)).await.expect("paused");
        container.kill().expect("killed");
        let exit = wait::soon("its end", started.exit).await.expect("an exit");
        assert_eq!(exit.status, ExitStatus::Signal { signal: 9, core_dumped: false });
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
}
