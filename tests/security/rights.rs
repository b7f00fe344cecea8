//! Capabilities, privileges and groups, as the kernel counts them inside.

use orangery_runtime::spec::caps::CapSet;
use orangery_runtime::spec::{Caps, Seccomp, User};
use orangery_tests::Scene;
use orangery_tests::host::{outcome, probe, see};
use serde_json::Value;

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

fn sets(seen: &Value) -> [u64; 5] {
    SETS.map(|set| u64::from_str_radix(seen["status"][set].as_str().expect("a set"), 16).expect("hexadecimal"))
}

pub(crate) fn all_five_capability_sets(scene: &Scene) {
    scene.play(async |host| {
        let default = Caps::default_root().permitted.0;
        for name in ["MKNOD", "AUDIT_WRITE", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN"] {
            assert_eq!(default & CapSet::parse(name).expect("a capability").0, 0, "{name}");
        }
        for without_init in [false, true] {
            let mut spec = host.spec("caps");
            spec.without_init = without_init;
            let container = host.create(spec, see(&[])).await.expect("created");
            let run = outcome(container.start().await.expect("started")).await.json();
            assert_eq!(sets(&run), [0, default, default, default, 0], "without_init {without_init}");
            if !without_init {
                let exec = outcome(container.exec(see(&[])).await.expect("exec")).await.json();
                assert_eq!(sets(&exec), [0, default, default, default, 0]);
            }
            container.delete().await.expect("deleted");
        }
        let nobody = host.see(&[], |_, main| main.user = User::Ids { uid: 7, gid: 7 }).await;
        assert_eq!(sets(&nobody), [0; 5]);
    });
}

pub(crate) fn asked_capabilities_and_no_others(scene: &Scene) {
    scene.play(async |host| {
        let bind = CapSet::NET_BIND_SERVICE;
        let ambient = Caps { bounding: bind, effective: bind, permitted: bind, inheritable: bind, ambient: bind };
        let seen = host
            .see(&[], |_, main| {
                main.user = User::Ids { uid: 7, gid: 7 };
                main.caps = Some(ambient);
            })
            .await;
        assert_eq!(sets(&seen), [bind.0; 5]);
        let none = host.see(&[], |_, main| main.caps = Some(Caps::none())).await;
        assert_eq!(sets(&none), [0; 5], "root without any");
        let wrong = Caps { ambient: bind, ..Caps::none() };
        let mut main = probe(&["true"]);
        main.caps = Some(wrong);
        assert_eq!(host.refused(host.spec("wrong"), main).await.0[0].field(), Some("caps"));
    });
}

pub(crate) fn no_new_privileges_and_a_filter(scene: &Scene) {
    scene.play(async |host| {
        let seen = host.see(&[], |_, _| ()).await;
        assert_eq!((&seen["status"]["NoNewPrivs"], &seen["status"]["Seccomp"]), (&"1".into(), &"2".into()));
        let seen = host
            .see(&[], |_, main| {
                main.new_privileges = true;
                main.seccomp = Seccomp::Unconfined;
            })
            .await;
        assert_eq!((&seen["status"]["NoNewPrivs"], &seen["status"]["Seccomp"]), (&"0".into(), &"0".into()));
        // Loaded while there are rights to it.
        let seen = host.see(&[], |_, main| main.new_privileges = true).await;
        assert_eq!((&seen["status"]["NoNewPrivs"], &seen["status"]["Seccomp"]), (&"0".into(), &"2".into()));
    });
}

pub(crate) fn setgroups_is_denied_with_one_id(scene: &Scene) {
    let many = orangery_tests::Machine::probe().lacks(orangery_tests::Need::ManyIds).is_none();
    scene.play(async |host| {
        let seen = host.see(&["/proc/self/setgroups"], |_, _| ()).await;
        assert_eq!(seen["paths"]["/proc/self/setgroups"]["content"] == "deny\n", !many);
        if !many {
            assert_eq!(host.once(host.spec("groups"), probe(&["attack"])).await.json()["setgroups"], -libc::EPERM);
            let mut main = probe(&["true"]);
            main.groups = vec![5];
            assert_eq!(host.refused(host.spec("asked"), main).await.0[0].field(), Some("groups"));
        }
    });
}
