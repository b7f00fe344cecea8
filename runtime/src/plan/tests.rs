//! Plans as snapshots, on a machine that never changes, and the properties that every plan has.

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::container::{self, Context};
use super::idmap::IdMap;
use super::machine::{Allotment, HostEntry, HostLayout};
use super::process::{self, Joining};
use super::{Machine, Need, Plan, explain, server, wire};
use crate::cgroup::Cgroups;
use crate::rootfs::Layering;
use crate::spec::check::{CheckedSpec, check};
use crate::spec::{
    Access, ContainerSpec, Mount, MountSource, Network, ProcessSpec, Resource, Rootfs, Stdio, User, WindowSize,
};

fn machine(enters_pidns: bool) -> Machine {
    Machine {
        whole: enters_pidns,
        privileged: enters_pidns,
        enters_pidns,
        nofile: (1024, 4096),
        host: HostLayout {
            entries: vec![
                HostEntry::Directory("/usr".into()),
                HostEntry::Link("/bin".into(), "usr/bin".into()),
                HostEntry::File("/etc/ld.so.cache".into()),
            ],
            opt: false,
            devices: vec![("null".into(), rustix::fs::makedev(1, 3)), ("zero".into(), rustix::fs::makedev(1, 5))],
            secrets: vec![("/etc/shadow".into(), false)],
            resolv_conf: Some(PathBuf::from("/run/resolv.conf")),
        },
        cgroup2: true,
        cgroup1: Vec::new(),
        user_namespace: None,
        counts_by_namespace: true,
    }
}

fn spec() -> ContainerSpec {
    ContainerSpec { id: "box".into(), ..ContainerSpec::default() }
}

fn command() -> ProcessSpec {
    ProcessSpec {
        argv: vec!["sh".into(), "-c".into(), "true".into()],
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        ..ProcessSpec::default()
    }
}

fn checked(spec: ContainerSpec, main: ProcessSpec) -> CheckedSpec {
    check(spec, main, &machine(true), &Cgroups::none("a test")).unwrap()
}

fn plan(spec: &CheckedSpec, ids: Option<IdMap>, trees: Vec<Need>) -> Plan {
    let machine = machine(true);
    let allotment = Allotment { ids, cgroup: true, tasks: 1, trees, ..Allotment::default() };
    container::plan(&Context { spec, machine: &machine, allotment: &allotment })
}

fn text(plan: &Plan) -> String {
    let mut text = format!("needs: {:?}\n{}\n", plan.needs(), explain::birth(plan));
    for line in explain::lines(plan) {
        let _ = writeln!(text, "{:3} {} [{}]: {}", line.step, line.words, line.field, line.calls.join("; "));
    }
    text
}

fn accepted(plan: &Plan) {
    let header = wire::check(plan.bytes(), plan.needs().len());
    assert!(header.is_ok(), "{header:?}");
}

#[test]
fn the_default_container() {
    let plan = plan(&checked(spec(), command()), Some(IdMap::range((524_288, 524_288), 65_536)), Vec::new());
    accepted(&plan);
    insta::assert_snapshot!(text(&plan));
}

#[test]
fn an_overlay_with_mounts_of_an_ordinary_user_and_no_init() {
    let mut spec = spec();
    spec.rootfs = Rootfs::Dir { path: "/".into(), access: Access::Overlay };
    spec.network = Network::Host;
    spec.without_init = true;
    spec.mounts = vec![
        Mount::bind("/usr", "/data/in").read_only(),
        Mount::new(MountSource::Tmpfs { size: Some(4096) }, "/scratch"),
    ];
    let plan = plan(&checked(spec, command()), Some(IdMap::single(0, 0, 0, 0)), vec![Need::Bind(0)]);
    accepted(&plan);
    insta::assert_snapshot!(text(&plan));
}

/// Namespaces of ours, which stand for those of others: what is joined is not made, and a root that is there is left alone.
#[test]
fn what_is_joined_is_not_made() {
    let own =
        |kind: &str| std::sync::Arc::new(std::fs::File::open(format!("/proc/self/ns/{kind}")).map(Into::into).unwrap());
    for (name, kinds) in [("names", &["net", "uts", "cgroup"][..]), ("root", &["mnt", "ipc"])] {
        let mut spec = spec();
        spec.join = kinds.iter().map(|kind| own(kind)).collect();
        let plan = plan(&checked(spec, command()), Some(IdMap::range((524_288, 524_288), 65_536)), Vec::new());
        accepted(&plan);
        let header = plan.header().unwrap();
        let joined = wire::JOINABLE.iter().zip(header.join).filter(|(_, slot)| *slot >= 0).map(|(kind, _)| kind);
        assert_eq!(header.clone & joined.fold(0, |all, kind| all | kind), 0);
        insta::assert_snapshot!(format!("a_container_joins_{name}"), text(&plan));
    }
}

/// Below a group that it shares lie those of others.
#[test]
fn control_groups_are_shown_to_who_has_one() {
    let (spec, machine) = (checked(spec(), command()), machine(true));
    for cgroup in [false, true] {
        let allotment = Allotment { cgroup, ..Allotment::default() };
        let plan = container::plan(&Context { spec: &spec, machine: &machine, allotment: &allotment });
        accepted(&plan);
        assert_eq!(text(&plan).contains("cgroup2"), cgroup, "{}", text(&plan));
    }
}

/// One that waits at a start gate anyway has no other line.
#[test]
fn a_stub_that_is_tied_has_a_line() {
    let machine = machine(true);
    for (without_init, tied, gates) in [(false, false, 0), (false, true, 1), (true, false, 1), (true, true, 1)] {
        let spec = checked(ContainerSpec { without_init, ..spec() }, command());
        let allotment = Allotment { tied, ..Allotment::default() };
        let plan = container::plan(&Context { spec: &spec, machine: &machine, allotment: &allotment });
        accepted(&plan);
        assert_eq!(plan.needs().iter().filter(|need| **need == Need::Gate).count(), gates);
        let holds = plan.steps().last().is_some_and(|step| step.op == wire::Op::Stub && step.a >= 0);
        assert_eq!(holds, tied && !without_init, "{}", text(&plan));
    }
}

/// Who makes it is gone when it is started: nothing that can be refused, and nothing that ties it, comes behind its gate.
#[test]
fn the_gate_of_one_that_is_left_is_the_last_thing() {
    let machine = machine(true);
    let spec = checked(ContainerSpec { without_init: true, ..spec() }, command());
    let plan = |leaves| {
        let allotment = Allotment { leaves, ..Allotment::default() };
        let plan = container::plan(&Context { spec: &spec, machine: &machine, allotment: &allotment });
        accepted(&plan);
        plan.steps().map(|step| step.op).collect::<Vec<_>>()
    };
    let left = plan(true);
    let gate = left.iter().position(|op| *op == wire::Op::Wait).unwrap();
    assert_eq!(left[gate - 1..=gate], [wire::Op::Ready, wire::Op::Wait]);
    let found = left.iter().position(|op| *op == wire::Op::Find).unwrap();
    assert!(found < gate);
    let behind = &left[gate + 1..];
    assert!(behind.iter().all(|op| matches!(op, wire::Op::Seccomp | wire::Op::Exec)), "{behind:?}");
    let set = |ops: &[wire::Op]| ops.iter().filter(|op| **op != wire::Op::Find).count();
    assert_eq!(set(&left), plan(false).len(), "the same steps in another order");
}

/// A process is born beside another one or in namespaces by themselves, and none is made and joined at once.
#[test]
fn contradictions_about_namespaces_are_refused() {
    let mut spec = spec();
    spec.join = vec![std::sync::Arc::new(std::fs::File::open("/proc/self/ns/uts").map(Into::into).unwrap())];
    let plan = plan(&checked(spec, command()), None, Vec::new());
    let changed = |at: usize, value: &[u8]| {
        let mut bytes = plan.bytes().to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        wire::check(&bytes, plan.needs().len())
    };
    let header = plan.header().unwrap();
    assert!(changed(24, &header.clone.to_le_bytes()).is_ok());
    assert!(changed(24, &(header.clone | wire::NEWUTS).to_le_bytes()).is_err());
    assert!(changed(34, &header.report.to_le_bytes()).is_err());
    for place in 0..wire::JOINABLE.len() {
        assert!(changed(wire::JOIN_AT + 2 * place, &999i16.to_le_bytes()).is_err(), "{place}");
    }
}

#[test]
fn a_process_joins_and_becomes_its_user() {
    let mut main = command();
    main.user = User::Ids { uid: 1000, gid: 1000 };
    main.oom_score_adj = Some(500);
    let spec = checked(spec(), main);
    for enters_pidns in [true, false] {
        let joining = Joining {
            ids: Some(IdMap::range((0, 0), 65_536)),
            own_network: true,
            cgroup: true,
            governs_cgroups: true,
            tasks: 1,
            ..Joining::default()
        };
        let plan = process::plan(spec.main(), &joining, &machine(enters_pidns));
        accepted(&plan);
        insta::assert_snapshot!(format!("a_process_enters_itself_{enters_pidns}"), text(&plan));
        let clocks = process::plan(spec.main(), &Joining { own_time: true, ..joining }, &machine(enters_pidns));
        accepted(&clocks);
        let joins = |plan: &Plan| {
            plan.steps()
                .map(|step| step.x)
                .chain([plan.header().unwrap().clone])
                .any(|x| x & wire::NEWTIME != 0 && x & wire::NEWIPC != 0)
        };
        assert!(joins(&clocks) && !joins(&plan));
    }
}

/// In its own session, with the rights of the container's root and as that, so that the terminal can be given to the user;
/// and the same terminal three times.
#[test]
fn a_terminal_is_made_before_rights_are_given_up() {
    let mut main = command();
    main.user = User::Ids { uid: 1000, gid: 1000 };
    main.tty = Some(WindowSize { rows: 5, columns: 7 });
    let joining = Joining { ids: Some(IdMap::range((0, 0), 65_536)), console: true, ..Joining::default() };
    let plan = process::plan(checked(spec(), main).main(), &joining, &machine(true));
    accepted(&plan);
    assert!(!plan.needs().iter().any(|need| matches!(need, Need::Stdio(_))), "{:?}", plan.needs());
    let ours: Vec<_> = explain::lines(&plan).into_iter().filter(|line| line.field == "tty").collect();
    let words: Vec<_> = ours.iter().map(|line| line.op).collect();
    assert_eq!(
        words,
        [
            "setids",
            "open",
            "check-fs",
            "open-peer",
            "window-size",
            "chown",
            "clone-tree",
            "open",
            "move-mount",
            "close",
            "close",
            "controlling-terminal",
            "send-fd",
            "close"
        ]
    );
    let at = |op: wire::Op| plan.steps().position(|step| step.op == op).unwrap();
    let (first, last) = (usize::from(ours[0].step), usize::from(ours[13].step));
    assert!(at(wire::Op::Setsid) < first && last < at(wire::Op::SetGroups) && last < at(wire::Op::CapSet));
    let peer = plan.steps().find(|step| step.op == wire::Op::OpenPeer).unwrap().dst;
    let installed: Vec<_> =
        plan.steps().filter(|step| step.op == wire::Op::Install).map(|step| (step.a, step.x)).collect();
    assert_eq!(installed, [(peer, 0), (peer, 1), (peer, 2)]);
    // A further process's terminal is nobody's console.
    let further = Joining { console: false, ..joining };
    let mut main = command();
    main.tty = Some(WindowSize::default());
    let plan = process::plan(checked(spec(), main).main(), &further, &machine(true));
    assert!(!plan.steps().any(|step| matches!(step.op, wire::Op::MoveMount | wire::Op::Chown)));
}

#[test]
fn a_terminal_excludes_streams_of_their_own() {
    let file = || Stdio::Fd(std::sync::Arc::new(std::fs::File::open("/dev/null").unwrap().into()));
    let mut main = command();
    main.tty = Some(WindowSize { rows: 0, columns: 80 });
    (main.stdin, main.stdout, main.stderr) = (file(), Stdio::Piped, file());
    let errors = check(spec(), main, &machine(true), &Cgroups::none("a test")).unwrap_err();
    let fields: Vec<_> = errors.0.iter().filter_map(crate::Error::field).collect();
    assert_eq!(fields, ["tty", "stdin", "stdout", "stderr"]);
}

#[test]
fn refusals_come_all_at_once_and_name_their_fields() {
    let mut spec = spec();
    spec.id = "../x".into();
    spec.hostname = Some("a b".into());
    spec.mounts = vec![Mount::bind("/nowhere", "/a/../b").read_only()];
    spec.sysctls.insert("kernel.panic".into(), "1".into());
    let mut main = command();
    main.argv = vec!["a\0b".into()];
    main.cwd = Some("relative".into());
    main.user = User::Name("4294967295".into());
    let errors = check(spec, main, &machine(true), &Cgroups::none("a test")).unwrap_err();
    let fields: Vec<_> = errors.0.iter().filter_map(crate::Error::field).collect();
    let wanted = ["id", "mounts[0].target", "mounts[0].source", "hostname", "sysctls", "argv[0]", "cwd", "user"];
    assert_eq!(fields, wanted);
}

/// /proc and /sys lie in a tree that others may write: below them nothing is named from its root.
#[test]
fn what_is_in_proc_and_sys_is_reached_from_their_own_descriptors() {
    for network in [Network::None, Network::Host] {
        let mut spec = spec();
        spec.rootfs = Rootfs::Dir { path: "/".into(), access: Access::ReadWrite };
        spec.network = network;
        spec.sysctls.insert("kernel.shm_rmid_forced".into(), "1".into());
        let plan =
            plan(&checked(spec, command()), Some(IdMap::range((524_288, 524_288), 65_536)), vec![Need::Layer(0)]);
        accepted(&plan);
        let proc = plan.steps().find(|step| step.op == wire::Op::NewMount && plan.text(step.s) == "proc").unwrap();
        for step in plan.steps() {
            let name = if step.op == wire::Op::Exec { String::new() } else { plan.text(step.s) };
            let in_proc = step.op == wire::Op::WriteFile && step.a == proc.dst;
            let below = |dir: &str| name.trim_start_matches('/').starts_with(dir);
            assert!(!below("proc/") && (!below("sys/") || in_proc), "{name}: {step:?}");
        }
        assert!(plan.steps().any(|step| plan.text(step.s) == "sys/kernel/shm_rmid_forced"));
    }
}

/// As the kernel's `map_id_range_down` looks for it: a line lies in one line of the keeper's own map.
#[test]
fn no_line_of_an_ordinary_users_map_lies_in_two_of_the_keepers() {
    let keepers = crate::plan::idmap::Ids::parse("0 1000 1\n1 100000 65536\n65537 300000 10").unwrap();
    let ids = IdMap::same(&keepers, &keepers);
    for ids in [ids.uid, ids.gid] {
        assert_eq!(ids.text(), "0 0 1\n1 1 65536\n65537 65537 10");
        assert_eq!((ids.outside(65_546), ids.outside(65_547)), (Some(65_546), None));
    }
}

/// A hard limit is raised while the keeper's rights are there, and descriptors are moved while there may be many.
#[test]
fn limits_are_raised_before_the_user_namespace_and_lowered_last() {
    let mut main = command();
    let limit = |resource, soft, hard| crate::spec::Rlimit::new(resource, soft, hard).unwrap();
    main.rlimits = vec![limit(Resource::Nofile, 64, 3000), limit(Resource::Core, 0, 0)];
    let spec = checked(spec(), main);
    let joining = Joining {
        ids: Some(IdMap::range((0, 0), 65_536)),
        own_network: true,
        cgroup: true,
        tasks: 1,
        ..Joining::default()
    };
    // The machine's own hard limit is below what is asked for.
    let machine = Machine { nofile: (1024, 2048), ..machine(true) };
    let plan = process::plan(spec.main(), &joining, &machine);
    accepted(&plan);
    let at = |what: &dyn Fn(&wire::Step) -> bool| plan.steps().position(|step| what(&step)).unwrap();
    let limit = |x, y, z| move |step: &wire::Step| step.op == wire::Op::Rlimit && (step.x, step.y, step.z) == (x, y, z);
    let joined = at(&|step| step.op == wire::Op::SetNs);
    assert!(at(&limit(7, 3000, 3000)) < joined && at(&limit(4, 0, 0)) < joined);
    assert!(at(&limit(7, 64, 3000)) > at(&|step| step.op == wire::Op::CloseRange));
}

/// Slots are used again, and what is too much for the keeper is told by field before it is asked.
#[test]
fn many_paths_fit_and_too_many_are_refused_by_their_field() {
    let many = |count: usize| {
        let mut spec = spec();
        spec.masked_paths = (0..count).map(|n| format!("/no/such/{n}").into()).collect();
        plan(&checked(spec, command()), Some(IdMap::range((524_288, 524_288), 65_536)), Vec::new())
    };
    accepted(&many(600));
    many(600).fits().unwrap();
    let error = many(2000).fits().unwrap_err();
    assert_eq!((error.kind(), error.field()), (crate::ErrorKind::Invalid, Some("masked_paths")));
}

#[test]
fn a_plan_that_fails_at_a_step_is_still_a_plan() {
    let plan = plan(&checked(spec(), command()), None, Vec::new());
    let steps = plan.header().unwrap().steps;
    for step in 0..steps {
        accepted(&plan.failing_at(step));
    }
}

#[test]
fn a_networks_helper_is_two_plans() {
    use super::helper;
    let ids = IdMap::range((524_288, 524_288), 65_536);
    let words = |words: &[&str]| words.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
    let (programs, argv) = (words(&["/usr/bin/pasta", "/bin/pasta"]), words(&["pasta", "--foreground"]));
    let mut printed = String::new();
    let guard = |ids: &IdMap| helper::guard("network", "orangery-net", Some(ids));
    for plan in [guard(&ids), helper::helper(&ids, (1024, 4096), &programs, &argv)] {
        accepted(&plan);
        printed.push_str(&text(&plan));
        printed.push('\n');
    }
    insta::assert_snapshot!(printed);
    // With one id setgroups is denied.
    let groups = |plan: &Plan| plan.steps().any(|step| step.op == wire::Op::SetGroups);
    assert!(groups(&guard(&ids)) && !groups(&guard(&IdMap::single(1000, 1000, 0, 0))));
}

/// The steps of a container whose root is written to and thrown away, made so.
fn layered(layering: Layering, trees: Vec<Need>) -> Plan {
    let mut spec = spec();
    spec.rootfs = Rootfs::Dir { path: "/".into(), access: Access::Overlay };
    let ids = Some(IdMap::range((524_288, 524_288), 65_536));
    let allotment = Allotment { ids, trees, layering, ..Allotment::default() };
    let plan =
        container::plan(&Context { spec: &checked(spec, command()), machine: &machine(true), allotment: &allotment });
    accepted(&plan);
    plan
}

#[test]
fn a_root_is_served_by_two_plans() {
    let container = layered(Layering::FuseOverlayfs, vec![Need::Layer(0)]);
    assert!(container.needs().contains(&Need::Served));
    let ids = IdMap::range((524_288, 524_288), 65_536);
    let shape = server::Shape { layers: 2, writable: true };
    let server = server::server(Some(&ids), (1024, 4096), &["/usr/bin/fuse-overlayfs".into()], shape);
    accepted(&server);
    insta::assert_snapshot!(format!("{}\n{}", of_root(&container), text(&server)));
    // Nobody in the container keeps the device.
    let at = |op: wire::Op| container.steps().position(|step| step.op == op);
    let sent = container.steps().position(|step| step.op == wire::Op::SendFd).unwrap();
    assert!(at(wire::Op::SetIds).unwrap() < sent && sent < at(wire::Op::PivotRoot).unwrap());
    let device = container.steps().nth(sent).unwrap().b;
    assert!(container.steps().skip(sent).any(|step| step.op == wire::Op::Close && step.a == device));
}

#[test]
fn a_copy_is_the_scratch_as_well() {
    let plan = layered(Layering::Copy, vec![Need::Layer(0)]);
    let mut tmpfs = plan.steps().filter(|step| step.op == wire::Op::NewMount && plan.text(step.s) == "tmpfs");
    assert!(tmpfs.all(|step| plan.field(&step) != "disk"), "one file system, of one size");
    insta::assert_snapshot!(of_root(&plan));
}

fn of_root(plan: &Plan) -> String {
    let lines = explain::lines(plan).into_iter().filter(|line| line.field == "rootfs" || line.op == "send-fd");
    lines.map(|line| format!("{} {}: {}\n", line.step, line.words, line.calls.join("; "))).collect()
}

#[test]
fn reaching_in_is_a_plan() {
    use super::reach;
    let joining =
        Joining { ids: Some(IdMap::range((524_288, 524_288), 65_536)), own_network: true, ..Joining::default() };
    for plan in [reach::socket(true, 2, 1), reach::socket(false, 1, 2), reach::pty(&joining, (7, 8))] {
        accepted(&plan);
        let last: Vec<wire::Op> = plan.steps().map(|step| step.op).collect();
        assert!(last.ends_with(&[wire::Op::SendFd, wire::Op::Quit]), "{last:?}");
        // A purpose that does not exist is refused before anything is sent.
        let mut bytes = plan.bytes().to_vec();
        let at = wire::HEADER + (last.len() - 2) * wire::STEP + 24;
        bytes[at] = 99;
        assert!(wire::check(&bytes, plan.needs().len()).is_err());
    }
    insta::assert_snapshot!(text(&reach::pty(&joining, (7, 8))));
}

/// Whoever is sent errands has become somebody for good before, without groups and without capabilities.
#[test]
fn a_hand_is_a_plan() {
    use wire::Op::{CapSet, Hand, Name, Ready, SetGroups, SetIds};
    let plan = super::reach::hand((7, 8));
    accepted(&plan);
    let steps: Vec<_> = plan.steps().map(|step| (step.op, step.x, step.y, step.z)).collect();
    let ops: Vec<_> = steps.iter().map(|(op, ..)| *op).collect();
    assert_eq!(ops, [SetGroups, SetIds, CapSet, Name, Ready, Hand]);
    assert_eq!((steps[1], steps[2]), ((SetIds, 7, 8, 0), (CapSet, 0, 0, 0)));
}

proptest! {
    /// Whatever bytes come: refused or in bounds, never a panic.
    #[test]
    fn the_check_survives_any_mutation(at in 0usize..20_000, byte: u8, cut in 0usize..20_000) {
        let plan = plan(&checked(spec(), command()), Some(IdMap::range((1, 1), 2)), Vec::new());
        let mut bytes = plan.bytes().to_vec();
        let len = bytes.len();
        bytes[at % len] = byte;
        let _ = wire::check(&bytes, plan.needs().len());
        let _ = wire::check(&bytes[..cut % len], plan.needs().len());
    }

    /// Arguments and environment survive the encoding, whatever they are.
    #[test]
    fn the_arguments_are_those_that_were_given(args in proptest::collection::vec("[^\0]{0,40}", 1..20)) {
        prop_assume!(!args[0].is_empty());
        let mut main = command();
        main.argv = args.iter().map(Into::into).collect();
        let spec = checked(spec(), main);
        let plan = process::plan(spec.main(), &Joining::default(), &machine(true));
        accepted(&plan);
        let step = plan.steps().find(|step| step.op == wire::Op::Exec).unwrap();
        let (mut at, count) = wire::pair(step.x);
        prop_assert_eq!(count as usize, args.len());
        for arg in &args {
            prop_assert_eq!(&plan.text(at), arg);
            at = wire::list_end(plan.bytes(), at, 1).unwrap();
        }
    }
}

#[test]
fn a_call_of_a_driver_is_a_plan() {
    use super::driver::{Call, Ground, Host, call};
    let mut spec = spec();
    spec.rootfs = Rootfs::Dir { path: "/".into(), access: Access::ReadOnly };
    spec.mounts = vec![Mount::bind("/usr", "/tmp/usr").read_only()];
    let checked = checked(spec, command());
    let read_only = ["/sys/fs/cgroup/memory".into()];
    let ground = Ground { place: "/mnt", unified: Some("/sys/fs/cgroup/unified".as_ref()), read_only: &read_only };
    let argv = ["crun".into(), "create".into()];
    let scratch = [("tmp", 0o1777)];
    let (owner, init) = ((524_288, 524_288), Some("/run/init".as_ref()));
    let host = |trees| Some(Host { spec: &checked, trees, scratch: &scratch, owner, init });
    let program = "/usr/bin/crun".as_ref();
    let one = Call {
        program,
        argv: &argv,
        env: &[],
        nofile: (1, 2),
        grouped: true,
        tasks: 2,
        oom_score_adj: Some(5),
        preserved: 2,
        ground,
        console: Some("/run/bundle".as_ref()),
        host: host(&[Need::Layer(0), Need::Bind(0)]),
    };
    let plan = call(&one);
    accepted(&plan);
    let text = text(&plan);
    assert!(text.contains("/mnt") && text.contains("/usr/bin/crun") && text.contains("chown"), "{text}");
    assert!(text.contains("/run/bundle"), "{text}");
    let (first, last) = (plan.steps().next().unwrap(), plan.steps().last().unwrap());
    assert_eq!(
        (first.op, last.op, last.z),
        (wire::Op::Attend, wire::Op::Exec, 1),
        "it is attended, and ends with who does that"
    );
    assert!(plan.needs().contains(&Need::Layer(0)) && plan.needs().contains(&Need::Bind(0)), "{:?}", plan.needs());
    // Where the call has the rights, and we have not.
    let copies = call(&Call { host: host(&[]), grouped: false, ..one });
    accepted(&copies);
    assert!(!copies.needs().iter().any(|need| matches!(need, Need::Layer(_) | Need::Bind(_))), "{:?}", copies.needs());
    let place = |copies: &Plan, what| copies.steps().position(|step| step.op == what).unwrap();
    assert!(place(&copies, wire::Op::OpenTree) < place(&copies, wire::Op::Mkdir), "before anything can hide a source");
    let plain = call(&Call { host: None, grouped: false, preserved: 0, ..one });
    accepted(&plain);
    assert!(!plain.needs().contains(&Need::Cgroup), "{:?}", plain.needs());
}

/// What is written of a bundle for a program that is driven says the same as the bundle.
#[cfg(feature = "oci")]
#[test]
fn a_bundle_is_written_as_it_was_read() {
    use crate::drivers::{Layout, config::config};
    let text = r#"{"ociVersion":"1.0.2","root":{"path":"/usr","readonly":true},"hostname":"h",
        "process":{"user":{"uid":7,"gid":8,"umask":63,"additionalGids":[9]},"args":["sh","-c","x"],"env":["PATH=/bin","A=b=c"],
            "cwd":"/etc","noNewPrivileges":true,"rlimits":[{"type":"RLIMIT_NOFILE","hard":64,"soft":32}],"oomScoreAdj":900,
            "capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]}},
        "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/data","type":"bind","source":"/usr","options":["rbind","ro","nosuid","noatime","rslave"]},
            {"destination":"/run","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","noexec","size=1m","tmpcopyup"]}],
        "linux":{"namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}],
            "sysctl":{"net.ipv4.ip_forward":"1"},"maskedPaths":["/proc/kcore"],"readonlyPaths":["/proc/sys"],
            "rootfsPropagation":"rslave",
            "devices":[{"path":"/dev/x","type":"c","major":1,"minor":3,"fileMode":384,"uid":1,"gid":2}]}}"#;
    let read = |text: &str| crate::spec::oci::parse(std::path::Path::new("/"), text.as_bytes()).unwrap();
    let (mut spec, main) = read(text);
    spec.id = "box".into();
    let checked = checked(spec.clone(), main.clone());
    let layout = Layout { spec: &checked, ids: None, cgroup: Some("/a/box"), place: "/mnt", unified: true };
    let (again, process) = read(&config(&layout).unwrap().to_string());
    let value = |of: &ProcessSpec| serde_json::to_value(of).unwrap();
    assert_eq!(value(&process), value(&main));
    assert_eq!(again.rootfs, Rootfs::Dir { path: "/mnt/rootfs".into(), access: Access::ReadOnly });
    assert_eq!(again.cgroups_path, Some("/a/box".into()));
    assert_eq!((again.shared, again.devices, again.sysctls), (spec.shared, spec.devices, spec.sysctls));
    assert_eq!((again.masked_paths, again.readonly_paths), (spec.masked_paths, spec.readonly_paths));
    assert_eq!((again.hostname, again.root_propagation), (spec.hostname, spec.root_propagation));
    spec.mounts[1].source = MountSource::Bind("/mnt/binds/1".into());
    assert_eq!(again.mounts, spec.mounts);
}

/// A keeper lives on while the program that has started it is replaced.
#[test]
fn the_version_is_raised_with_what_it_is_the_version_of() {
    let steps = wire::Op::ALL.iter().fold(0u64, |sum, op| sum.wrapping_mul(31).wrapping_add(*op as u64));
    let sizes = (wire::HEADER, wire::STEP, wire::MESSAGE, wire::SCHED_ATTR, wire::MAX_FDS);
    let now = (wire::VERSION, wire::Op::ALL.len(), steps, sizes);
    assert_eq!(
        now,
        (10, 73, 6_956_948_399_283_909_160, (64, 48, 128, 56, 240)),
        "raise wire::VERSION, and write here what it stands for"
    );
}
