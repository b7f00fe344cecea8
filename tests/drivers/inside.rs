//! What a command finds inside.

use orangery_runtime::rootfs::Directory;
use orangery_runtime::seccomp::{Action, Arch, Filter, Rule, syscall_number};
use orangery_runtime::spec::{
    Access, CapSet, Caps, Disk, Mount, Resource, Rlimit, Rootfs, Seccomp, Stdio, User, UserNamespace,
};
use orangery_tests::Scene;
use orangery_tests::host::{command, probe, see};
use serde_json::Value;

use crate::program::{Which, is_root, play};

pub(crate) fn what_a_command_sees(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let (mut spec, mut main) = (host.spec("sees"), see(&["/etc/marker", "/dev/null", "/proc/interrupts"]));
        spec.hostname = Some("driven".into());
        spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
        main.user = User::Ids { uid: 1234, gid: 4321 };
        main.groups = vec![77];
        main.cwd = Some("/etc".into());
        main.env = vec![("A".into(), "b=c".into())];
        // Not of descriptors: of those Go's own start makes the soft limit the hard one, now and then after runc has set both.
        main.rlimits = vec![Rlimit::new(Resource::Core, 33, 44).expect("a limit")];
        main.oom_score_adj = Some(321);
        let set = CapSet::parse("CAP_KILL").expect("known");
        main.caps = Some(Caps { bounding: set, ..Caps::none() });
        let seen = host.life(spec, main).await.0.json();
        assert_eq!(seen["hostname"], "driven");
        assert_eq!(seen["cwd"], "/etc");
        assert_eq!(seen["oom_score_adj"], "321");
        assert!(seen["env"].as_array().expect("a list").contains(&"A=b=c".into()), "{}", seen["env"]);
        let status = &seen["status"];
        let word =
            |key: &str| status[key].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(word("Uid"), "1234 1234 1234 1234");
        assert_eq!(word("Gid"), "4321 4321 4321 4321");
        assert!(word("Groups").split(' ').any(|group| group == "77"), "{}", word("Groups"));
        assert_eq!((word("NoNewPrivs").as_str(), word("Seccomp").as_str()), ("1", "2"));
        assert_eq!((word("CapBnd").as_str(), word("CapEff").as_str()), ("0000000000000020", "0000000000000000"));
        let limits = seen["limits"].as_array().expect("lines");
        let core = limits.iter().filter_map(Value::as_str).find(|line| line.starts_with("Max core file size"));
        assert_eq!(core.expect("a line").split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["33", "44"]);
        assert_eq!(seen["paths"]["/etc/marker"]["content"], "the image");
        assert_eq!(seen["paths"]["/dev/null"]["content"], "1:3");
        assert_eq!(seen["paths"]["/proc/interrupts"]["content"], "1:3", "it is masked");
        assert_eq!(seen["interfaces"].as_object().expect("names").keys().collect::<Vec<_>>(), ["lo"]);
        let fds = seen["fds"].as_object().expect("descriptors");
        assert_eq!(fds.keys().collect::<Vec<_>>(), ["0", "1", "2"], "nothing else is open: {fds:?}");
    });
}

pub(crate) fn ids_of_its_own(scene: &Scene, which: Which) {
    let nodes = || {
        ["/dev/null", "/dev/zero", "/dev/full"].map(|path| {
            use std::os::unix::fs::MetadataExt as _;
            let node = std::fs::metadata(path).expect("a device");
            (node.uid(), node.gid(), node.mode())
        })
    };
    let before = nodes();
    play(scene, which, async |host| {
        let mut spec = host.spec("ids");
        spec.user_namespace = UserNamespace::Own;
        spec.mounts.push(Mount::bind(host.image.join("etc"), "/var").read_only());
        let seen =
            host.life(spec, see(&["/etc/marker", "/var/marker", "/tmp", "/run", "/proc/self/uid_map"])).await.0.json();
        let paths = &seen["paths"];
        for path in ["/etc/marker", "/var/marker", "/tmp", "/run"] {
            assert_eq!((&paths[path]["uid"], &paths[path]["gid"]), (&0.into(), &0.into()), "{path}: {}", paths[path]);
        }
        let map = paths["/proc/self/uid_map"]["content"].as_str().expect("text").split_whitespace().collect::<Vec<_>>();
        assert!(map[0] == "0" && (map[1] != "0" || !is_root()), "{map:?}");
        let given = |path: &str| {
            let node = std::fs::File::options().read(true).write(true).open(path).expect("a device");
            Stdio::Fd(std::sync::Arc::new(node.into()))
        };
        let mut spec = host.spec("devices");
        spec.user_namespace = UserNamespace::Own;
        let mut main = command(&[
            "/bin/sh",
            "-c",
            "/bin/busybox head -c 3 | /bin/busybox wc -c >&2; /bin/busybox echo x || exit 7",
        ]);
        (main.stdin, main.stdout) = (given("/dev/zero"), given("/dev/full"));
        let outcome = host.life(spec, main).await.0;
        assert_eq!(
            (outcome.code(), outcome.err.lines().next()),
            (7, Some("3")),
            "they are what they were: {outcome:?}"
        );
    });
    // Its streams were such: crun gives what it passes on to the container's user.
    assert_eq!(nodes(), before, "the machine's own");
}

pub(crate) fn filters(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        // Of our profile: a new namespace is refused, whatever else is asked for with it.
        let script =
            "unshare -U true 2>/dev/null && echo a namespace; /bin/busybox unshare -m true && echo another; echo end";
        let (outcome, _) = host.life(host.spec("profile"), command(&["/bin/sh", "-c", script])).await;
        assert_eq!((outcome.code(), outcome.out.as_str()), (0, "end\n"), "{outcome:?}");
        // One of the user's: this call ends with that error.
        let call = syscall_number("chdir").expect("known");
        let rule = Rule { syscall: call, args: Vec::new(), action: Action::Errno(95) };
        let mut main = command(&["/bin/sh", "-c", "cd /etc; echo $?"]);
        main.filters = vec![Filter { default: Action::Allow, rules: vec![rule], arches: vec![Arch::native()] }];
        main.seccomp = Seccomp::Unconfined;
        let container = host.create(host.spec("own"), main.clone()).await;
        let started = container.start().await.expect("started");
        let outcome = orangery_tests::host::outcome(started).await;
        assert!(outcome.err.contains("not supported"), "{outcome:?}");
        let error = container.exec(probe(&["true"])).await.expect_err("another filter");
        assert_eq!(error.field(), Some("seccomp"), "{error:?}");
        container.delete().await.expect("deleted");
        // A name that the program's libseccomp may not know is not let through by a default that lets others through.
        let number = syscall_number("mseal").expect("known");
        let rule = Rule { syscall: number, args: Vec::new(), action: Action::Errno(95) };
        let mut main = probe(&["call", &number.to_string()]);
        main.filters = vec![Filter { default: Action::Allow, rules: vec![rule], arches: vec![Arch::native()] }];
        main.seccomp = Seccomp::Unconfined;
        let (outcome, _) = host.life(host.spec("unknown"), main).await;
        let result = outcome.json()["result"].as_i64().expect("a number");
        assert!([-95, -38].contains(&result), "refused, or as of an older kernel: {outcome:?}");
        assert!(which != Which::Ours || result == -95, "{outcome:?}");
    });
}

/// A root of layers, which is written to and thrown away, or only read; and one that somebody else has prepared.
pub(crate) fn layers(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let upper = scene.dir().join("upper");
        std::fs::create_dir_all(upper.join("etc")).expect("directories");
        std::fs::write(upper.join("etc/marker"), "above").expect("a file");
        let line = "cat /etc/marker; echo new >/etc/new && cat /etc/new; /bin/busybox dd if=/dev/zero of=/var/big bs=64k count=64 2>&1 | /bin/busybox grep -c space";
        let run = || command(&["/bin/sh", "-c", line]);
        for user_namespace in [UserNamespace::Own, host.spec("x").user_namespace] {
            let mut spec = host.spec("overlay");
            spec.user_namespace = user_namespace;
            spec.disk = Disk { bytes: 1 << 20, inodes: 64 };
            spec.rootfs = Rootfs::Dir { path: host.image.clone(), access: Access::Overlay };
            let (outcome, _) = host.life(spec.clone(), run()).await;
            assert_eq!(outcome.out, "the imagenew\n1\n", "{outcome:?}");
            let lower = vec![upper.clone(), host.image.clone()];
            spec.rootfs = Rootfs::Layers { lower: lower.clone(), access: Access::Overlay };
            assert_eq!(host.life(spec.clone(), run()).await.0.out, "abovenew\n1\n");
            spec.rootfs = Rootfs::Layers { lower, access: Access::ReadOnly };
            assert_eq!(host.life(spec.clone(), run()).await.0.out, "above0\n");
            let provider = Directory::new(host.image.clone(), Access::Overlay);
            spec.rootfs_provider = Some(std::sync::Arc::new(provider));
            let (outcome, _) = host.life(spec, run()).await;
            assert_eq!(outcome.out, "the imagenew\n1\n", "{outcome:?}");
        }
        assert!(!host.image.join("etc/new").exists() && !host.image.join("var/big").exists());
        assert!(!upper.join("etc/new").exists());
    });
}

pub(crate) fn mounts_and_private_directories(scene: &Scene, which: Which) {
    play(scene, which, async |host| {
        let data = scene.dir().join("data");
        std::fs::create_dir(&data).expect("a directory");
        std::fs::write(data.join("there"), "before").expect("a file");
        let mut spec = host.spec("mounts");
        spec.disk = Disk { bytes: 1 << 20, inodes: 64 };
        spec.mounts.push(Mount::bind(&data, "/var"));
        spec.mounts.push(Mount::bind(&data, "/usr").read_only());
        spec.mounts.push(Mount::tmpfs("/home").no_exec());
        let script = "cat /var/there; echo new >/var/new; echo x >/usr/new; echo x >/etc/new; echo x >/bin/new;
            echo x >/tmp/new && echo tmp; echo x >/run/new && echo run; echo x >/dev/shm/new && echo shm;
            echo x >/home/new && echo home; /bin/busybox dd if=/dev/zero of=/tmp/big bs=64k count=64 2>&1 | /bin/busybox grep -c space";
        let (outcome, _) = host.life(spec, command(&["/bin/sh", "-c", script])).await;
        assert_eq!(outcome.out, "beforetmp\nrun\nshm\nhome\n1\n", "{outcome:?}");
        assert_eq!(std::fs::read_to_string(data.join("new")).expect("written"), "new\n");
        assert!(!host.image.join("etc/new").exists() && !host.image.join("bin/new").exists());
        // A root that is written to.
        let mut spec = host.spec("written");
        spec.rootfs = Rootfs::Dir { path: host.image.clone(), access: Access::ReadWrite };
        let (outcome, _) = host.life(spec, command(&["/bin/sh", "-c", "echo kept >/etc/new"])).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        assert_eq!(std::fs::read_to_string(host.image.join("etc/new")).expect("written"), "kept\n");
    });
}
