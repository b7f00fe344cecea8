//! Every step of a container's plan fails once, and (`stages.rs`) every step of a process's plan and every stage of the
//! supervisor's side: the error names it, and nothing is left.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod joined;
mod stages;

use std::process::ExitCode;
use std::sync::Arc;

use joined::{each_step_beside_another_containers_root, each_step_in_namespaces_of_another_container};
use orangery_runtime::native::{Faults, Point};
use orangery_runtime::plan::Plan;
use orangery_runtime::plan::explain::{self, Line};
use orangery_runtime::plan::wire::Op;
use orangery_runtime::spec::{Access, Mount, Network, Propagation, Rootfs, StagedFile, Stdio};
use orangery_runtime::{Container, ContainerSpec, Error, ErrorKind, ProcessSpec};
use orangery_tests::host::probe;
use orangery_tests::{Host, Scene, trial, wait};
use stages::{
    each_stage_of_a_creation, each_stage_of_a_process, each_stage_of_an_image_under_an_overlay,
    each_step_of_a_rich_exec, each_step_of_the_main_process,
};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(each_step_of_the_default_container).long(),
        trial!(each_step_without_init).long(),
        trial!(each_step_of_a_rich_container).long(),
        trial!(each_step_of_an_image_under_an_overlay, Busybox).long(),
        trial!(each_step_with_the_hosts_root_and_network).long(),
        trial!(each_step_in_namespaces_of_another_container).long(),
        trial!(each_step_beside_another_containers_root, GroupKill).long(),
        trial!(each_step_of_the_main_process).long(),
        trial!(each_step_of_a_rich_exec).long(),
        trial!(each_stage_of_a_creation),
        trial!(each_stage_of_an_image_under_an_overlay, Busybox),
        trial!(each_stage_of_a_process),
        trial!(steps_behind_the_gate_fail_the_start),
        trial!(a_failure_does_not_disturb_a_neighbour),
        trial!(the_keepers_trace_tells_the_step),
        trial!(the_keepers_trace_stays_out_of_preserved_descriptors),
    ])
}

/// Fail step N for every N, each with a runtime of its own; the stock is compared after each.
fn each_step(scene: &Scene, what: impl Fn(&Host) -> (ContainerSpec, ProcessSpec)) {
    let plan = {
        let mut plan = None;
        scene.play(async |host| {
            let (spec, main) = what(host);
            plan = Some(host.rt.plan(spec.clone(), main.clone()).expect("a plan").0);
            // It works when nothing fails, or the failures below would prove nothing.
            host.life(spec, main).await;
        });
        plan.expect("a plan")
    };
    let lines = explain::lines(&plan);
    assert!(lines.len() > 30, "{} steps", lines.len());
    let before = scene.stock();
    for line in &lines {
        let mut options = scene.options();
        let step = line.step;
        options.faults = Faults::new(move |_, point| point == Point::ContainerStep(step));
        scene.play_with(options, async |host| {
            let (spec, main) = what(host);
            fails(host, spec, main, &plan, line).await;
        });
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "step {} {}: left {left:?}", line.step, line.words);
    }
}

/// This creation, or the start after it, fails at this step and says so.
pub(crate) async fn fails(host: &Host, spec: ContainerSpec, main: ProcessSpec, plan: &Plan, line: &Line) {
    let error = match host.create(spec, main).await {
        Err(errors) => errors.0.into_iter().next().expect("an error"),
        Ok(container) => match fails_late(&*container, plan, line).await {
            Some(error) => error,
            None => return,
        },
    };
    // The child may be dead before the keeper has written its maps: B3.
    if line.op == "wait-maps" && error.stage() == Some("keeper: write the id maps") {
        return;
    }
    // The replaced step is a setns on a pipe, which the system call filter refuses before the kernel does.
    let refused = if after(plan, Op::Seccomp, line) { libc::EPERM } else { libc::EINVAL };
    assert_eq!(error.errno(), Some(refused), "{line:?}: {error:?}");
    let stage = error.stage().unwrap_or_default();
    assert!(stage.starts_with(&format!("step {} ", line.step)), "{line:?}: {error:?}");
    assert!(matches!(error.kind(), ErrorKind::Creation | ErrorKind::Permission), "{error:?}");
    field_of(&error, plan, line.step);
}

/// The error names the field of the spec that the step comes from.
pub(crate) fn field_of(error: &Error, plan: &Plan, step: u16) {
    let field = plan.step(step).map(|step| plan.field(&step)).expect("a step");
    assert_eq!(error.field().unwrap_or(""), field, "step {step}: {error:?}");
}

/// Behind step `op` of the plan.
pub(crate) fn after(plan: &Plan, op: Op, line: &Line) -> bool {
    plan.steps().position(|step| step.op == op).is_some_and(|place| usize::from(line.step) > place)
}

/// What comes behind "ready" fails the start. A stub init that is not there is found by whatever comes next, and a gate
/// whose keeper is dead by the broken pipe: those say no step (B5, B6).
async fn fails_late(container: &dyn Container, plan: &Plan, line: &Line) -> Option<Error> {
    assert!(after(plan, Op::Ready, line), "step {} {} failed and nobody noticed", line.step, line.words);
    let start = wait::soon("start", container.start()).await;
    wait::soon("delete", container.delete()).await.expect("deleted");
    match (line.op, start) {
        ("stub-init", Ok(started)) => {
            // It was quicker than the end of its namespace, or not.
            wait::soon("its end", started.exit).await.expect("an exit");
            None
        }
        ("stub-init", Err(error)) => {
            assert!(
                matches!(error.kind(), ErrorKind::State | ErrorKind::Creation | ErrorKind::Permission),
                "{error:?}"
            );
            None
        }
        ("wait", Err(error)) if error.errno() == Some(libc::EPIPE) => None,
        (_, start) => Some(start.expect_err("the start fails")),
    }
}

fn each_step_of_the_default_container(scene: &Scene) {
    each_step(scene, |host| (host.spec("plain"), probe(&["true"])));
}

fn each_step_without_init(scene: &Scene) {
    each_step(scene, |host| {
        let mut spec = host.spec("pid1");
        spec.without_init = true;
        (spec, probe(&["true"]))
    });
}

fn each_step_of_a_rich_container(scene: &Scene) {
    let shared = scene.dir().join("shared");
    std::fs::create_dir(&shared).expect("a directory");
    each_step(scene, |host| {
        let mut spec = host.spec("rich");
        let mut data = Mount::bind(shared.clone(), "/data");
        // The mounts of an ordinary user's trial may all be private.
        data.propagation = if scene.root() { Propagation::Slave } else { Propagation::Private };
        let mut device = Mount::device("/dev/full");
        device.target = "/dev/deep/full".into();
        spec.mounts.extend([data, Mount::tmpfs("/scratch").no_exec(), device]);
        spec.files.push(StagedFile { path: "/in/file".into(), content: b"x".as_slice().into(), mode: 0o600 });
        spec.sysctls.insert("net.ipv4.ip_default_ttl".into(), "7".into());
        spec.masked_paths.push("/etc/hosts".into());
        spec.readonly_paths.push("/var".into());
        spec.without_init = true;
        let mut main = probe(&["true"]);
        main.preserved.push(Arc::new(std::fs::File::open("/dev/null").expect("null").into()));
        (spec, main)
    });
}

fn each_step_of_an_image_under_an_overlay(scene: &Scene) {
    let image = scene.image("image");
    each_step(scene, |host| {
        let mut spec = host.spec("overlay");
        spec.mounts.clear();
        spec.rootfs = Rootfs::Dir { path: image.clone(), access: Access::Overlay };
        (spec, probe(&["true"]))
    });
}

fn each_step_with_the_hosts_root_and_network(scene: &Scene) {
    each_step(scene, |host| {
        let mut spec = host.spec("host");
        spec.rootfs = Rootfs::HostRoot;
        spec.network = Network::Host;
        spec.mounts[0].target = "/usr/bin/false".into();
        let mut main = probe(&["true"]);
        main.argv[0] = "/usr/bin/false".into();
        (spec, main)
    });
}

fn steps_behind_the_gate_fail_the_start(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["true"]);
        main.cwd = Some("/no/such".into());
        main.stdin = Stdio::Piped;
        for without_init in [false, true] {
            let mut spec = host.spec("late");
            spec.without_init = without_init;
            let container = host.create(spec, main.clone()).await.expect("created");
            let error = container.start().await.expect_err("no such directory");
            assert_eq!((error.field(), error.errno()), (Some("cwd"), Some(libc::ENOENT)), "{error:?}");
            assert!(error.stage().is_some_and(|stage| stage.ends_with(" chdir")), "{error:?}");
            container.delete().await.expect("deleted");
        }
    });
}

fn a_failure_does_not_disturb_a_neighbour(scene: &Scene) {
    scene.play(async |host| {
        let mut main = probe(&["cat"]);
        main.stdin = Stdio::Piped;
        let neighbour = host.create(host.spec("neighbour"), main).await.expect("created");
        let mut started = neighbour.start().await.expect("started");
        for n in 0..20 {
            let mut spec = host.spec(&format!("fails{n}"));
            spec.mounts.push(Mount::bind("/usr", "/proc/1/cwd").read_only());
            let errors = host.refused(spec, probe(&["true"])).await;
            assert_eq!(errors.0[0].field(), Some("mounts"), "{errors:?}");
        }
        drop(started.stdin.take());
        assert_eq!(orangery_tests::host::outcome(started).await.code(), 0);
        neighbour.delete().await.expect("deleted");
    });
}

/// This trial once more, in a process whose keeper traces into the text that comes back; `None` there.
#[expect(
    clippy::disallowed_methods,
    reason = "the variable must be there when the runtime starts: a process of its own"
)]
fn traced(scene: &Scene) -> Option<String> {
    const ROLE: &str = "ORANGERY_TEST_TRACED";
    if std::env::var_os(ROLE).is_some() {
        return None;
    }
    let file = scene.dir().join("trace");
    let out = std::fs::File::create(&file).expect("a file");
    let mut child = std::process::Command::new(std::env::current_exe().expect("us"))
        .env(ROLE, "1")
        .env("ORANGERY_KEEPER_TRACE", "0")
        .stdin(out)
        .spawn()
        .expect("started");
    let status = wait::child(&mut child, wait::PATIENCE).expect("waited");
    assert!(status.is_some_and(|status| status.success()));
    Some(std::fs::read_to_string(&file).expect("a trace"))
}

/// `ORANGERY_KEEPER_TRACE=FD`: each step of the child, and the errno of the one that failed.
fn the_keepers_trace_tells_the_step(scene: &Scene) {
    if let Some(text) = traced(scene) {
        let steps: Vec<u64> = text
            .lines()
            .filter(|line| !line.contains("errno="))
            .filter_map(|line| line.split("step=").nth(1)?.split(' ').next()?.parse().ok())
            .collect();
        assert_eq!(steps, (0..=20).collect::<Vec<u64>>(), "{text}");
        assert!(text.lines().any(|line| line.contains("step=20") && line.ends_with("errno=22")), "{text}");
        return;
    }
    let mut options = scene.options();
    options.faults = Faults::new(|_, point| point == Point::ContainerStep(20));
    scene.play_with(options, async |host| {
        host.refused(host.spec("traced"), probe(&["true"])).await;
    });
}

/// The trace is not written into what the process was given under the same number.
fn the_keepers_trace_stays_out_of_preserved_descriptors(scene: &Scene) {
    if let Some(text) = traced(scene) {
        // The newest child is the process. The init's last step may come between: it is told of as ready before that.
        let id = |line: &str| line.split(" child id=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
        let process = text.lines().filter_map(id).max();
        let last = text.lines().rfind(|line| process.is_some() && id(line) == process);
        assert!(last.is_some_and(|line| line.ends_with(" execve")), "{text}");
        return;
    }
    let path = scene.dir().join("preserved");
    let file = std::fs::File::options().create_new(true).read(true).write(true).open(&path).expect("a file");
    let file = Arc::new(file.into());
    scene.play(async |host| {
        let mut main = probe(&["true"]);
        main.preserved = vec![file; 16];
        assert_eq!(host.once(host.spec("preserves"), main).await.code(), 0);
    });
    assert_eq!(std::fs::read_to_string(&path).expect("the file"), "");
}
