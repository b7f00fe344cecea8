//! Every step of a process's plan, and what the supervisor does itself: id range, cgroup, memfds, trees, descriptors, the
//! birth by the keeper.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use orangery_runtime::native::{Faults, Point};
use orangery_runtime::plan::explain;
use orangery_runtime::plan::wire::Op;
use orangery_runtime::spec::{Access, Resource, Rlimit, Rootfs, StagedFile, Stdio, User};
use orangery_runtime::{Container, ContainerSpec, Error, ErrorKind, ProcessSpec, Started};
use orangery_tests::host::{outcome, probe};
use orangery_tests::{Host, Scene, wait};

use crate::{after, field_of};

/// Fail step N of the main process's plan for every N: the start fails, nothing is left.
pub(crate) fn each_step_of_the_main_process(scene: &Scene) {
    let plan = main_plan(scene, &probe(&["true"]));
    let before = scene.stock();
    for line in explain::lines(&plan) {
        let mut options = scene.options();
        options.faults = Faults::new(move |_, point| point == Point::ProcessStep(line.step));
        scene.play_with(options, async |host| {
            let container = host.create(host.spec("p"), probe(&["true"])).await.expect("created");
            let error = wait::soon("start", container.start()).await.expect_err("the step fails");
            told(&error, line.step, after(&plan, Op::Seccomp, &line));
            field_of(&error, &plan, line.step);
            wait::soon("delete", container.delete()).await.expect("deleted");
        });
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "step {} {}: left {left:?}", line.step, line.words);
    }
}

/// The same for an exec with everything in it: the container and its main process go on.
pub(crate) fn each_step_of_a_rich_exec(scene: &Scene) {
    let plan = main_plan(scene, &rich());
    let armed = Arc::new(AtomicBool::new(false));
    let before = scene.stock();
    for line in explain::lines(&plan) {
        let mut options = scene.options();
        let on = Arc::clone(&armed);
        options.faults =
            Faults::new(move |_, point| on.load(Ordering::Acquire) && point == Point::ProcessStep(line.step));
        scene.play_with(options, async |host| {
            let (container, main) = waiting(host, host.spec("p")).await;
            armed.store(true, Ordering::Release);
            let error = wait::soon("exec", container.exec(rich())).await.expect_err("the step fails");
            told(&error, line.step, after(&plan, Op::Seccomp, &line));
            field_of(&error, &plan, line.step);
            armed.store(false, Ordering::Release);
            goes_on(&*container, main).await;
        });
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "step {} {}: left {left:?}", line.step, line.words);
    }
}

fn rich() -> ProcessSpec {
    let mut process = probe(&["true"]);
    process.user = User::Ids { uid: 0, gid: 0 };
    process.rlimits.push(Rlimit { resource: Resource::Core, soft: 0, hard: 0 });
    process.oom_score_adj = Some(500);
    process.cwd = Some("/tmp".into());
    process.stdin = Stdio::Piped;
    process.preserved.push(Arc::new(std::fs::File::open("/dev/null").expect("null").into()));
    process
}

fn main_plan(scene: &Scene, main: &ProcessSpec) -> orangery_runtime::plan::Plan {
    let mut plan = None;
    scene.play(async |host| {
        plan = host.rt.plan(host.spec("p"), main.clone()).expect("plans").1;
        // It works when nothing fails, or the failures below would prove nothing.
        assert_eq!(host.once(host.spec("p"), main.clone()).await.code(), 0);
    });
    let plan = plan.expect("a process plan");
    assert!(plan.steps().count() > 12, "{} steps", plan.steps().count());
    plan
}

fn told(error: &Error, step: u16, filtered: bool) {
    // The replaced step is a setns on a pipe, which the system call filter refuses before the kernel does.
    let errno = if filtered { libc::EPERM } else { libc::EINVAL };
    assert_eq!(error.errno(), Some(errno), "step {step}: {error:?}");
    assert!(error.stage().is_some_and(|stage| stage.starts_with(&format!("step {step} "))), "step {step}: {error:?}");
}

/// A container whose main process reads its standard input.
pub(crate) async fn waiting(host: &Host, spec: ContainerSpec) -> (Box<dyn Container>, Started) {
    let mut main = probe(&["cat"]);
    main.stdin = Stdio::Piped;
    let container = host.create(spec, main).await.unwrap_or_else(|errors| panic!("create: {errors}"));
    let started = wait::soon("start", container.start()).await.expect("started");
    (container, started)
}

/// The main process is unharmed, and another one can be started.
pub(crate) async fn goes_on(container: &dyn Container, main: Started) {
    let next = wait::soon("exec", container.exec(probe(&["exit", "5"]))).await.expect("the next exec works");
    assert_eq!(outcome(next).await.code(), 5);
    assert_eq!(outcome(main).await.code(), 0);
    wait::soon("delete", container.delete()).await.expect("deleted");
}

/// The stages of a process.
const OF_PROCESS: [Point; 4] =
    [Point::ProcessDescriptors, Point::ProcessStored, Point::ProcessBorn, Point::ProcessRunning];

/// The stages that a life of `what` passes, from a hook that never fails.
fn passed(scene: &Scene, what: impl Fn(&Host) -> ContainerSpec) -> Vec<Point> {
    let seen: Arc<Mutex<Vec<Point>>> = Arc::default();
    let mut options = scene.options();
    let into = Arc::clone(&seen);
    options.faults = Faults::new(move |id, point| {
        assert_eq!(id, "stages");
        if !matches!(point, Point::ContainerStep(_) | Point::ProcessStep(_)) {
            into.lock().expect("no panic").push(point);
        }
        false
    });
    scene.play_with(options, async |host| {
        assert_eq!(host.once(what(host), probe(&["true"])).await.code(), 0);
    });
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen.len(), seen.iter().collect::<std::collections::HashSet<_>>().len(), "each once: {seen:?}");
    seen
}

/// Fail each stage of the creation; in the same runtime the next creation under the same name works.
fn each_stage(scene: &Scene, what: impl Fn(&Host) -> ContainerSpec) -> BTreeSet<String> {
    let stages = passed(scene, &what);
    let of_process = |point: &Point| OF_PROCESS.contains(point);
    let before = scene.stock();
    for point in stages.iter().copied().filter(|point| !of_process(point)) {
        let armed = Arc::new(AtomicBool::new(true));
        let mut options = scene.options();
        let on = Arc::clone(&armed);
        options.faults = Faults::new(move |_, at| at == point && on.load(Ordering::Acquire));
        scene.play_with(options, async |host| {
            let errors = host.refused(what(host), probe(&["true"])).await;
            let error = errors.0.first().expect("an error");
            assert_eq!((error.kind(), error.errno()), (ErrorKind::System, Some(libc::EIO)), "{point:?}: {error:?}");
            assert_eq!(error.stage(), Some(format!("{point:?}").as_str()));
            armed.store(false, Ordering::Release);
            assert_eq!(host.once(what(host), probe(&["true"])).await.code(), 0, "after {point:?}");
        });
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "{point:?}: left {left:?}");
    }
    stages.into_iter().map(|point| format!("{point:?}")).collect()
}

fn must_have(stages: &BTreeSet<String>, names: &[&str]) {
    for name in names {
        assert!(stages.contains(*name), "{name} was never passed: {stages:?}");
    }
}

pub(crate) fn each_stage_of_a_creation(scene: &Scene) {
    let stages = each_stage(scene, |host| {
        let mut spec = host.spec("stages");
        let file = |path: &str| StagedFile { path: path.into(), content: b"x".as_slice().into(), mode: 0o600 };
        spec.files = vec![file("/in/one"), file("/tmp/two")];
        spec
    });
    must_have(
        &stages,
        &["IdRange", "Cgroup", "StagedFile(0)", "StagedFile(1)", "ContainerDescriptors", "ContainerBorn"],
    );
    if scene.root() {
        must_have(&stages, &["UserNamespace", "Bind(0)"]);
    }
}

pub(crate) fn each_stage_of_an_image_under_an_overlay(scene: &Scene) {
    let image = scene.image("image");
    let stages = each_stage(scene, |host| {
        let mut spec = host.spec("stages");
        spec.mounts.clear();
        spec.rootfs = Rootfs::Dir { path: image.clone(), access: Access::Overlay };
        spec
    });
    must_have(&stages, if scene.root() { &["UserNamespace", "Layer(0)"] } else { &["ContainerBorn"] });
}

/// The main process and an exec, before and after the keeper has made them.
pub(crate) fn each_stage_of_a_process(scene: &Scene) {
    let armed = Arc::new(AtomicBool::new(false));
    let before = scene.stock();
    for point in OF_PROCESS {
        let mut options = scene.options();
        let on = Arc::clone(&armed);
        options.faults = Faults::new(move |_, at| at == point && on.load(Ordering::Acquire));
        scene.play_with(options, async |host| {
            let container = host.create(host.spec("main"), probe(&["true"])).await.expect("created");
            armed.store(true, Ordering::Release);
            let error = wait::soon("start", container.start()).await.expect_err("it fails");
            assert_eq!((error.errno(), error.stage()), (Some(libc::EIO), Some(format!("{point:?}").as_str())));
            armed.store(false, Ordering::Release);
            wait::soon("delete", container.delete()).await.expect("deleted");

            let (container, main) = waiting(host, host.spec("exec")).await;
            armed.store(true, Ordering::Release);
            let error = wait::soon("exec", container.exec(probe(&["wait"]))).await.expect_err("it fails");
            assert_eq!(error.stage(), Some(format!("{point:?}").as_str()), "{error:?}");
            armed.store(false, Ordering::Release);
            goes_on(&*container, main).await;
        });
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "{point:?}: left {left:?}");
    }
}
