//! What a bundle says of its process and its clocks, looked at from inside.

use std::fs;
use std::path::Path;

use orangery_runtime::spec::{Stdio, oci};
use orangery_runtime::{Container, ExitStatus};
use orangery_tests::host::{Outcome, outcome, see};
use orangery_tests::net::{Net, ip, ip_says};
use orangery_tests::{Host, Scene, wait};
use serde_json::{Value, json};

use crate::bundle::{Bundle, bundle};

/// One that lives until its standard input ends.
async fn living(bundle: &Bundle, host: &Host, id: &str) -> Box<dyn Container> {
    let (mut spec, mut main) = oci::parse(&bundle.dir, bundle.config.to_string().as_bytes()).expect("a bundle");
    spec.id = id.into();
    main.stdin = Stdio::Piped;
    (main.stdout, main.stderr) = (Stdio::Piped, Stdio::Piped);
    host.create(spec, main).await.unwrap_or_else(|errors| panic!("create: {errors}"))
}

fn content<'v>(seen: &'v Value, path: &str) -> &'v str {
    seen["paths"][path]["content"].as_str().unwrap_or_else(|| panic!("{path}: {seen}"))
}

const OFFSETS: &str = "/proc/self/timens_offsets";

fn words(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().collect()
}

pub(crate) fn the_clocks_of_a_bundle(scene: &Scene) {
    let mut first = bundle(scene, &["cat"]);
    let plain = first.config.clone();
    let own = fs::read_link("/proc/self/ns/time").expect("a link").to_string_lossy().into_owned();
    let namespaces = |config: &mut Value, more: Value| {
        config["linux"]["namespaces"].as_array_mut().expect("a list").push(more);
    };
    namespaces(&mut first.config, json!({"type": "time"}));
    first.config["linux"]["timeOffsets"] =
        json!({"monotonic": {"secs": -1, "nanosecs": 5}, "boottime": {"secs": 1_000_000}});
    scene.play(async |host| {
        let container = living(&first, host, "first").await;
        let started = wait::soon("start", container.start()).await.expect("started");
        let seen = outcome(container.exec(see(&[OFFSETS, "/proc/uptime"])).await.expect("exec")).await.json();
        assert_eq!(words(content(&seen, OFFSETS)), ["monotonic", "-1", "5", "boottime", "1000000", "0"], "{seen}");
        let uptime: f64 = words(content(&seen, "/proc/uptime"))[0].parse().expect("seconds");
        assert!(uptime > 1_000_000.0, "{uptime}");
        let time = seen["ns"]["time"].clone();
        assert!(time != json!(own) && seen["ns"]["time_for_children"] == time, "{seen}");
        // Another one in the same namespace.
        let mut second = Bundle { dir: first.dir.clone(), config: plain.clone() };
        second.config["process"]["args"] = json!(["/probe", "see", OFFSETS]);
        namespaces(&mut second.config, json!({"type": "time", "path": format!("/proc/{}/ns/time", started.pid)}));
        if host.root() {
            let seen = second.run(host).await.json();
            assert_eq!((&seen["ns"]["time"], words(content(&seen, OFFSETS))[1]), (&time, "-1"), "{seen}");
        }
        second.config["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}});
        assert!(second.refused(host).await.contains("linux.timeOffsets.boottime"));
        // Not before the machine's own beginning.
        second.config = first.config.clone();
        second.config["linux"]["timeOffsets"]["monotonic"]["secs"] = (-1_000_000_000_000i64).into();
        assert!(second.refused(host).await.contains("time"));
        second.config = plain.clone();
        second.config["process"]["args"] = json!(["/probe", "see"]);
        assert_eq!(second.run(host).await.json()["ns"]["time"], own, "what is not listed is the caller's");
        drop(started.stdin);
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
}

pub(crate) fn memory_and_cpus_of_a_process(scene: &Scene) {
    let maps = "/proc/self/numa_maps";
    let mut bundle = bundle(scene, &["see", maps]);
    bundle.config["linux"]["memoryPolicy"] =
        json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    bundle.config["process"]["execCPUAffinity"] = json!({"initial": "0", "final": "0"});
    let allowed = |seen: &Value| seen["status"]["Cpus_allowed_list"].clone();
    scene.play(async |host| {
        if !Path::new(maps).exists() {
            assert!(bundle.refused(host).await.contains("memory_policy"));
            return;
        }
        let seen = bundle.run(host).await.json();
        assert!(content(&seen, maps).contains("bind=static:0"), "{seen}");
        let status = fs::read_to_string("/proc/self/status").expect("a text");
        let ours = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).expect("a list");
        assert_eq!(allowed(&seen), ours, "the first process is not executed into the container");
        bundle.config["process"]["args"] = json!(["/probe", "cat"]);
        let container = living(&bundle, host, "affinity").await;
        let started = wait::soon("start", container.start()).await.expect("started");
        let mut process = see(&[]);
        (process.cpus_before, process.cpus) = (Some("0".into()), Some("0".into()));
        let seen = outcome(container.exec(process.clone()).await.expect("exec")).await.json();
        assert_eq!(allowed(&seen), "0");
        process.cpus = Some("0-".into());
        let errors = container.exec(process.clone()).await.expect_err("no list");
        assert!(errors.to_string().contains("cpus"), "{errors}");
        process.cpus = Some("8000".into());
        let errors = container.exec(process).await.expect_err("no such CPU");
        assert!(errors.to_string().contains("cpus"), "{errors}");
        drop(started.stdin);
        wait::soon("delete", container.delete()).await.expect("deleted");
    });
}

/// Of modules that the kernel does not run nothing can be had.
pub(crate) fn labels_are_refused_where_nobody_reads_them(scene: &Scene) {
    let mut bundle = bundle(scene, &["see", "/proc/self/attr/current"]);
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    let selinux = Path::new("/sys/fs/selinux/enforce").exists();
    scene.play(async |host| {
        bundle.config["process"]["apparmorProfile"] = "unconfined".into();
        if enabled.starts_with('Y') {
            assert!(content(&bundle.run(host).await.json(), "/proc/self/attr/current").starts_with("unconfined"));
        } else {
            let refused = bundle.refused(host).await;
            assert!(refused.contains("apparmor_profile") && refused.contains("not enabled"), "{refused}");
        }
        bundle.config["process"]["apparmorProfile"] = "".into();
        bundle.config["linux"]["intelRdt"] = json!({"closID": "gold"});
        assert!(bundle.refused(host).await.contains("intel_rdt"), "a supervisor keeps no groups of resctrl");
        bundle.config["linux"]["intelRdt"] = Value::Null;
        if !selinux {
            bundle.config["process"]["selinuxLabel"] = "system_u:system_r:container_t:s0".into();
            bundle.config["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0".into();
            let refused = bundle.refused(host).await;
            assert!(refused.contains("selinux_label") && refused.contains("mount_label"), "{refused}");
        }
    });
}

/// Those that version 1 has beside the ordinary ones, and those that it has not, in the words of the files.
pub(crate) fn the_other_limits_of_a_bundle(scene: &Scene) {
    let mut bundle = bundle(scene, &["see"]);
    bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
    bundle.mount(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}));
    let legacy = Path::new("/sys/fs/cgroup/memory").exists();
    let both = json!({"memory": {"reservation": 4 << 20, "kernel": 1 << 20}, "cpu": {"idle": 1}});
    // What it is, and what the file says then.
    let mut cases = vec![
        (both.clone(), if legacy { "memory/memory.soft_limit_in_bytes" } else { "memory.low" }, "4194304"),
        (both, if legacy { "cpu/cpu.idle" } else { "cpu.idle" }, "1"),
        (
            json!({"unified": {"cgroup.max.descendants": "7"}}),
            if legacy { "unified/cgroup.max.descendants" } else { "cgroup.max.descendants" },
            "7",
        ),
    ];
    if legacy {
        cases.push((json!({"memory": {"swappiness": 7}}), "memory/memory.swappiness", "7"));
        let memory = json!({"limit": 32 << 20, "disableOOMKiller": true});
        cases.push((
            json!({"memory": memory}),
            "memory/memory.oom_control",
            "oom_kill_disable 1\nunder_oom 0\noom_kill 0",
        ));
        let cpu = json!({"quota": 50_000, "period": 100_000, "burst": 20_000});
        cases.push((json!({"cpu": cpu}), "cpu/cpu.cfs_burst_us", "20000"));
    }
    scene.play(async |host| {
        for (resources, file, says) in cases {
            let path = format!("/sys/fs/cgroup/{file}");
            bundle.config["process"]["args"] = json!(["/probe", "see", path]);
            bundle.config["linux"]["resources"] = resources;
            let seen = bundle.run(host).await.json();
            assert_eq!(content(&seen, &path).trim_end(), says, "{file}");
        }
        let mut wrong = vec![
            (json!({"unified": {"cgroup.procs": "0"}}), "linux.resources.unified.cgroup.procs"),
            (json!({"unified": {"weather.max": "0"}}), "weather controller"),
            (json!({"unified": {"a/memory.max": "0"}}), "linux.resources.unified.a/memory.max"),
            (
                json!({"memory": {"reservation": 4 << 20}, "rdma": {"none": {"hcaHandles": 1}}}),
                "linux.resources.rdma.none",
            ),
        ];
        if legacy {
            wrong.push((json!({"unified": {"memory.high": "1"}}), "version 1"));
        } else {
            wrong.push((json!({"memory": {"swappiness": 7}}), "version 2"));
        }
        if !Path::new("/sys/fs/cgroup/net_cls").exists() && legacy {
            wrong.push((json!({"network": {"classID": 1}}), "net_cls controller"));
        }
        for (resources, says) in wrong {
            bundle.config["linux"]["resources"] = resources;
            let refused = bundle.refused(host).await;
            assert!(refused.contains(says), "{says}: {refused}");
        }
    });
}

fn ended_by(outcome: &Outcome, signal: i32) -> bool {
    matches!(outcome.exit.status, ExitStatus::Signal { signal: by, .. } if by == signal)
}

/// By the names of the same list, where it says so. A call of such a program ends the process where it does not.
pub(crate) fn programs_of_32_bits_are_filtered_too(scene: &Scene) {
    // getpid and getppid of i386, and mkdir.
    let (getpid, getppid, mkdir) = ("20", "64", "39");
    let mut bundle = bundle(scene, &["narrow", getpid]);
    let mut filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99},
            {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 98}],
    });
    bundle.config["linux"]["seccomp"] = filter.clone();
    scene.play(async |host| {
        let plain = bundle.run(host).await;
        assert_eq!(plain.json()["result"], 1);
        for (number, errno) in [(mkdir, 99), (getppid, 98)] {
            bundle.config["process"]["args"] = json!(["/probe", "narrow", number]);
            assert_eq!(bundle.run(host).await.json()["result"], -errno, "{number}");
        }
        filter["architectures"] = json!(["SCMP_ARCH_X86_64"]);
        bundle.config["linux"]["seccomp"] = filter;
        let killed = bundle.run(host).await;
        assert!(ended_by(&killed, libc::SIGSYS), "{:?}", killed.exit);
    });
}

/// It has its addresses and its MTU there, is up, and is gone here; what fails gives it back as it was.
pub(crate) fn an_interface_of_the_hosts_is_the_containers(scene: &Scene) {
    let _net = Net::set(scene);
    ip("link add gift type veth peer name rest");
    ip("link set gift mtu 1400 address 02:00:00:00:00:07");
    ip("link set gift up");
    ip("addr add 10.9.8.7/24 dev gift");
    ip("addr add fd00::7/64 dev gift nodad");
    let eth0 = |file: &str| format!("/sys/class/net/eth0/{file}");
    let files = [eth0("mtu"), eth0("address"), eth0("flags"), "/sys/class/net/eth1/mtu".to_owned()];
    let (four, six) = ("/proc/net/fib_trie", "/proc/net/if_inet6");
    let mut bundle = bundle(scene, &["see", four, six]);
    bundle.config["process"]["args"].as_array_mut().expect("a list").extend(files.iter().map(|path| json!(path)));
    bundle.mount(json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]}));
    bundle.config["linux"]["netDevices"] = json!({"gift": {"name": "eth0"}});
    let here = || ip_says("addr show dev gift");
    scene.play(async |host| {
        bundle.config["linux"]["netDevices"]["none"] = json!({});
        let refused = bundle.refused(host).await;
        assert!(refused.contains("net_devices[none]") || refused.contains("no interface none"), "{refused}");
        assert!(here().contains("10.9.8.7/24") && here().contains("fd00::7/64") && here().contains("UP"), "{}", here());
        bundle.config["linux"]["netDevices"] = json!({"gift": {"name": "eth%s"}});
        assert!(bundle.refused(host).await.contains("net_devices[gift]"));
        // Each has the first number that is free when it comes.
        bundle.config["linux"]["netDevices"] = json!({"gift": {"name": "eth%d"}, "rest": {"name": "eth%d"}});
        let seen = bundle.run(host).await.json();
        let found = files.each_ref().map(|path| content(&seen, path).trim());
        assert_eq!(found, ["1400", "02:00:00:00:00:07", "0x1003", "1500"], "{seen}");
        assert!(content(&seen, four).contains("10.9.8.7"), "{seen}");
        assert!(content(&seen, six).contains("fd000000000000000000000000000007 "), "{seen}");
        assert!(!here().contains("gift"), "{}", here());
        let all = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
        all.retain(|namespace| namespace["type"] != "network");
        assert!(bundle.refused(host).await.contains("net_devices"));
    });
}
