//! Every step of a container that lives in namespaces of another one: nothing is left of it, and the other one, whose
//! namespaces its child has been in, goes on.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use orangery_runtime::native::{Faults, Point};
use orangery_runtime::plan::{Plan, explain};
use orangery_runtime::spec::namespaces;
use orangery_runtime::{ContainerSpec, Started};
use orangery_tests::host::probe;
use orangery_tests::{Host, Scene};

use crate::fails;
use crate::stages::{goes_on, waiting};

pub(crate) fn each_step_in_namespaces_of_another_container(scene: &Scene) {
    let kinds = &["net", "ipc", "uts", "cgroup", "user"];
    assert!(each_step(scene, kinds, false) > 30, "the root is made");
}

pub(crate) fn each_step_beside_another_containers_root(scene: &Scene) {
    let kinds = &["net", "ipc", "uts", "cgroup", "pid", "mnt", "user"];
    assert!(each_step(scene, kinds, true) > 10, "the command is the first process");
}

fn spec(host: &Host, other: &Started, kinds: &[&str], without_init: bool) -> ContainerSpec {
    let mut spec = host.spec("joins");
    spec.without_init = without_init;
    if kinds.contains(&"mnt") {
        spec.mounts.clear();
    }
    let open = |kind: &&str| -> Arc<OwnedFd> {
        Arc::new(namespaces::open(kind, Path::new(&format!("/proc/{}/ns/{kind}", other.pid))).expect("a namespace"))
    };
    spec.join = kinds.iter().map(open).collect();
    spec
}

/// Fail step N for every N, each with a runtime of its own; the stock is compared after each. The number of steps.
fn each_step(scene: &Scene, kinds: &[&str], without_init: bool) -> usize {
    let mut plan: Option<Plan> = None;
    scene.play(async |host| {
        let (container, other) = waiting(host, host.spec("other")).await;
        let spec = spec(host, &other, kinds, without_init);
        plan = Some(host.rt.plan(spec.clone(), probe(&["true"])).expect("a plan").0);
        // It works when nothing fails, or the failures below would prove nothing.
        host.life(spec, probe(&["true"])).await;
        goes_on(&*container, other).await;
    });
    let plan = plan.expect("a plan");
    let before = scene.stock();
    let lines = explain::lines(&plan);
    for line in &lines {
        let mut options = scene.options();
        let step = line.step;
        options.faults = Faults::new(move |id, point| id == "joins" && point == Point::ContainerStep(step));
        scene.play_with(options, async |host| {
            let (container, other) = waiting(host, host.spec("other")).await;
            fails(host, spec(host, &other, kinds, without_init), probe(&["true"]), &plan, line).await;
            goes_on(&*container, other).await;
        });
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "step {} {}: left {left:?}", line.step, line.words);
    }
    lines.len()
}
