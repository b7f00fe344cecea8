//! What only root of the machine can have is refused to an ordinary user before anything is made, by its field and with the
//! reason.

use std::fs;

use orangery_runtime::spec::{Access, Mount, Resource, Rlimit, Rootfs, UserNamespace};
use orangery_runtime::{ContainerSpec, ErrorKind, ProcessSpec};
use orangery_tests::Scene;
use orangery_tests::host::probe;

/// What is asked for.
struct Asked {
    what: &'static str,
    ask: fn(&mut ContainerSpec, &mut ProcessSpec),
    /// What is to blame, and a part of the reason.
    field: &'static str,
    why: &'static str,
}

const ASKED: [Asked; 8] = [
    Asked {
        what: "ids of the host",
        ask: |container, _| container.user_namespace = UserNamespace::Host,
        field: "user_namespace",
        why: "only root",
    },
    Asked {
        what: "more descriptors than it may have",
        ask: |_, main| main.rlimits.push(above(Resource::Nofile)),
        field: "rlimits[0]",
        why: "above the hard limit",
    },
    Asked {
        what: "a real-time priority",
        ask: |_, main| main.rlimits.push(above(Resource::Rtprio)),
        field: "rlimits[0]",
        why: "CAP_SYS_RESOURCE",
    },
    Asked {
        what: "to be spared by the OOM killer",
        ask: |_, main| main.oom_score_adj = Some(-1000),
        field: "oom_score_adj",
        why: "below ours",
    },
    Asked {
        what: "a device that is root's",
        ask: |container, _| container.mounts.push(Mount::device("/dev/console")),
        field: "mounts[1].device",
        why: "neither read nor write",
    },
    Asked {
        what: "a parameter of the machine's kernel",
        ask: |container, _| drop(container.sysctls.insert("vm.overcommit_memory".into(), "1".into())),
        field: "sysctls",
        why: "not a parameter of namespaces",
    },
    Asked {
        what: "a directory that it may not look into",
        ask: |container, _| container.mounts.push(Mount::bind("/proc/1/root/etc", "/mnt")),
        field: "mounts[1].source",
        why: "",
    },
    Asked {
        what: "a root that is not there for it",
        ask: |container, _| {
            container.mounts.clear();
            container.rootfs = Rootfs::Dir { path: "/proc/1/root".into(), access: Access::ReadOnly };
        },
        field: "rootfs",
        why: "",
    },
];

/// More than this process may have, whatever that is.
fn above(resource: Resource) -> Rlimit {
    let wanted = resource.current().1.saturating_add(1);
    Rlimit { resource, soft: wanted, hard: wanted }
}

pub(crate) fn what_only_root_can_have_is_refused_with_the_reason(scene: &Scene) {
    scene.play(async |host| {
        for Asked { what, ask, field, why } in ASKED {
            // A console that is the user's is no test.
            if field.ends_with("device") && fs::File::open("/dev/console").is_ok() {
                continue;
            }
            let (mut spec, mut main) = (host.spec("asked"), probe(&["true"]));
            ask(&mut spec, &mut main);
            let errors = host.refused(spec, main).await;
            let error = errors.0.iter().find(|error| error.field() == Some(field));
            let error = error.unwrap_or_else(|| panic!("{what}: {errors:?}"));
            let kinds = [ErrorKind::Invalid, ErrorKind::Permission, ErrorKind::Unsupported, ErrorKind::System];
            assert!(kinds.contains(&error.kind()), "{what}: {error:?}");
            let said = error.to_string();
            assert!(said.contains(why) && !said.contains("18446744073709551615"), "{what}: {said}");
        }
        assert!(scene.cgroups().iter().all(|dir| !dir.ends_with("asked")), "nothing was made");
    });
}
