//! Fault points that only real containers pass: the stages of a creation and the steps of the plans, by the policy of
//! the supervisor. Every step and every stage of them is `tests/faults` of the runtime; this is the way there.

use std::sync::Arc;

use orangery::faults::{Fault, FaultPoint, FaultPolicy, Site};
use orangery::runtime::native::Point;
use orangery::{ErrorKind, Sandbox, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::builder;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(a_step_of_a_plan_fails_for_the_container_that_was_meant), trial!(a_stage_fails_with_the_number_given)]
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
