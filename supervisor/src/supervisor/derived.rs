//! How a container is watched and ended, from what was asked for: the same for one that is made and one that is adopted.

use orangery_runtime::ProcessSpec;

use crate::command::Ways;
use crate::container::cpu;
use crate::container::life::Policy;
use crate::limit_update::Watched;
use crate::probe::Care;
use crate::process::slot::Terms;
use crate::sandbox::Description;

/// `counted`: the cgroup counts processor time.
pub(crate) fn derive(
    description: &Description,
    main: &mut ProcessSpec,
    mut ways: Ways,
    care: Care,
    counted: bool,
) -> (Terms, Policy) {
    description.each.give(main);
    let hooks = std::mem::take(&mut ways.hooks).beside(main);
    let terms = ways.terms(main, description.wall, description.output);
    let watched = Watched {
        wall: terms.wall.as_ref().map(|wall| wall.limit),
        cpu_time: description.cpu_time,
        idle: description.idle,
        output: description.output.map(|limit| limit.bytes),
    };
    let backstop = |limit| cpu::backstop(main, limit, counted);
    let backstopped = description.cpu_time.is_some_and(backstop);
    let policy = Policy {
        hooks,
        watched,
        backstopped,
        drain_grace: description.drain_grace,
        each: description.each.clone(),
        unattended: description.unattended,
        keep_files: description.keep_files,
        care: care.boxed(),
    };
    (terms, policy)
}
