//! Limits of block devices, as the kernel's files say them.

use super::*;

/// Two disks of this machine, which is not asked to have any.
fn disks() -> Vec<BlockDevice> {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let number = |disk: std::fs::DirEntry| std::fs::read_to_string(disk.path().join("dev")).ok()?.trim().parse().ok();
    let mut found: Vec<BlockDevice> = disks.filter_map(number).collect();
    found.sort_by_key(ToString::to_string);
    found.truncate(2);
    found
}

fn read(group: &Group, file: &str) -> String {
    let texts = group.paths().into_iter().filter_map(|path| std::fs::read_to_string(path.join(file)).ok());
    texts.collect()
}

/// The rates of a device, in the order of `io.max`.
fn rates(group: &Group, device: &BlockDevice) -> [String; 4] {
    let device = device.to_string();
    let line = |text: &str| text.lines().find_map(|line| Some(line.strip_prefix(&device)?.trim().to_owned()));
    if let Some(line) = line(&read(group, "io.max")) {
        let words = line.split(' ').map(|word| word.split_once('=').unwrap().1.to_owned());
        return words.collect::<Vec<_>>().try_into().unwrap();
    }
    ["read_bps", "write_bps", "read_iops", "write_iops"]
        .map(|rate| line(&read(group, &format!("blkio.throttle.{rate}_device"))).unwrap_or_else(|| "max".into()))
}

fn with_io(test: impl Fn(Cgroups, &[BlockDevice])) {
    let disks = disks();
    both(|cgroups| {
        let limits = Limits { io_max: disks.iter().map(most).collect(), ..Limits::default() };
        match cgroups.supports(&limits).first() {
            None if disks.len() == 2 => test(cgroups, &disks),
            refused => println!("SKIPPED: two disks with limits: {disks:?}, {refused:?}"),
        }
    });
}

fn most(device: &BlockDevice) -> IoMax {
    IoMax { write_bps: Some(1 << 20), read_iops: Some(500), ..IoMax::new(device.clone()) }
}

#[test]
fn what_is_asked_of_a_device_is_what_the_kernel_has() {
    with_io(|cgroups, disks| {
        let all = Limits { io_max: disks.iter().map(most).collect(), ..Limits::default() };
        let group = make(&cgroups, "io", &all);
        let asked = ["max", "1048576", "500", "max"];
        assert_eq!([rates(&group, &disks[0]), rates(&group, &disks[1])], [asked, asked]);
        // One rate more, one less, of one device.
        let io_max = vec![IoMax { write_bps: Some(u64::MAX), write_iops: Some(9), ..IoMax::new(disks[0].clone()) }];
        group.update(&Limits { io_max, ..Limits::default() }).unwrap();
        assert_eq!([rates(&group, &disks[0]), rates(&group, &disks[1])], [["max", "max", "500", "9"], asked]);
        // The counters are there, and nobody has read or written anything.
        let stats = group.stats();
        let counted = [stats.io_read_bytes, stats.io_write_bytes, stats.io_read_ops, stats.io_write_ops];
        assert_eq!(counted, [Some(0); 4], "{stats:?}");
        group.remove().unwrap();
    });
}

#[test]
fn a_change_of_devices_can_be_put_back() {
    with_io(|cgroups, disks| {
        let all = Limits { io_max: vec![most(&disks[0])], cpuset_cpus: Some("0".into()), ..Limits::default() };
        let group = make(&cgroups, "io", &all);
        let other = IoMax { read_bps: Some(4096), ..IoMax::new(disks[1].clone()) };
        let more = IoMax { write_bps: Some(4096), ..IoMax::new(disks[0].clone()) };
        let changed = Limits { io_max: vec![more, other], ..Limits::default() };
        let back = group.put_back(&changed).unwrap();
        group.update(&changed).unwrap();
        assert_eq!(rates(&group, &disks[0]), ["max", "4096", "500", "max"]);
        assert_eq!(rates(&group, &disks[1]), ["4096", "max", "max", "max"]);
        for (file, bytes) in &back {
            assert_eq!(rustix::io::write(file, bytes).unwrap(), bytes.len());
        }
        assert_eq!(rates(&group, &disks[0]), ["max", "1048576", "500", "max"]);
        assert_eq!(rates(&group, &disks[1]), ["max"; 4]);
        group.remove().unwrap();
    });
}

/// Also of a group below it, and in a hierarchy that the container itself is not in.
#[test]
fn what_was_killed_waits_for_no_device() {
    with_io(|cgroups, disks| {
        let limits = Limits { io_max: disks.iter().map(most).collect(), ..Limits::default() };
        for of_all in [limits.clone(), Limits::default()] {
            let group = make(&cgroups, "io", &of_all);
            let nested = group.nested("own", &limits).unwrap();
            assert_ne!(rates(&nested, &disks[1]), ["max"; 4]);
            group.lift_io();
            for disk in disks {
                assert_eq!([rates(&group, disk), rates(&nested, disk)], [["max"; 4]; 2]);
            }
            nested.remove().unwrap();
            group.remove().unwrap();
        }
    });
}

#[test]
fn one_that_cannot_be_had_is_named() {
    with_io(|cgroups, disks| {
        let none = BlockDevice::Path("/no/such".into());
        let io_max = vec![most(&disks[0]), most(&none)];
        let limits = Limits { io_max, ..Limits::default() };
        let refused = cgroups.supports(&limits);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(refused[0].0 == "io_max[/no/such]" && refused[0].1.contains("No such file"), "{refused:?}");
        let error = cgroups.create("io", &limits).unwrap_err();
        assert!(error.field() == Some("io_max[/no/such]") && error.is_unsupported(), "{error}");
        // A weight that nothing heeds is no limit.
        let weight = IoWeight { device: disks[0].clone(), weight: 50 };
        let limits = Limits { io_device_weight: vec![weight], ..Limits::default() };
        for (field, why) in cgroups.supports(&limits) {
            assert_eq!(field, format!("io_device_weight[{}]", disks[0]));
            assert!(why.contains("bfq") || why.contains("this kernel has no"), "{why}");
        }
    });
}

#[test]
fn a_process_has_limits_of_its_own() {
    with_io(|cgroups, disks| {
        let group = make(&cgroups, "io", &Limits::default());
        let limits = Limits { io_max: vec![most(&disks[0])], ..Limits::default() };
        let nested = group.nested("own", &limits).unwrap();
        assert_eq!(rates(&nested, &disks[0]), ["max", "1048576", "500", "max"]);
        nested.remove().unwrap();
        group.remove().unwrap();
    });
}

/// Settings that are named by their file, a line for each disk: the second is refused, and the first is as it was.
#[test]
fn lines_that_were_written_before_a_failure_are_put_back() {
    with_io(|cgroups, disks| {
        let group = make(&cgroups, "io", &Limits { io_max: vec![most(&disks[0])], ..Limits::default() });
        let lines = |rates: &str, of: &[&str]| of.iter().map(|disk| format!("{disk} {rates}\n")).collect::<String>();
        let (first, second) = (disks[0].to_string(), disks[1].to_string());
        let asked = |of: &[&str]| {
            let one = Other::new("rates", "io").v2("io.max", lines("wbps=4096", of));
            let one = one.v1("blkio.throttle.write_bps_device", lines("4096", of));
            Limits { other: vec![one], ..Limits::default() }
        };
        let before = [rates(&group, &disks[0]), rates(&group, &disks[1])];
        let error = group.update(&asked(&[&second, &first, "4095:1048575"])).unwrap_err();
        assert!(error.field() == Some("rates") && !error.to_string().contains("put back"), "{error}");
        assert_eq!([rates(&group, &disks[0]), rates(&group, &disks[1])], before);
        group.update(&asked(&[&second, &first])).unwrap();
        assert_eq!(rates(&group, &disks[1])[1], "4096");
        group.remove().unwrap();
    });
}
