//! Everything of ours that reads bytes of others, as functions that must neither panic nor contradict themselves.
//!
//! Each target is a plain `fn(&[u8])`. `tests/mutants.rs` runs all of them on stable, over the corpus and seeded mutants
//! of it; `libfuzzer/` gives the same functions to `cargo fuzz` (nightly):
//! `cargo +nightly fuzz run --fuzz-dir fuzz/libfuzzer plan fuzz/corpus/plan`.
#![allow(clippy::panic, clippy::expect_used, reason = "a panic is what a fuzz target says")]

mod mutate;

use std::path::Path;
use std::sync::LazyLock;

use orangery_daemon::wire::{Asked, Create};
use orangery_runtime::cgroup::{self, Cgroups, Limits};
use orangery_runtime::durable::{self, ContainerRecord, Drained, ProcessRecord};
use orangery_runtime::plan::container::{self, Context};
use orangery_runtime::plan::explain;
use orangery_runtime::plan::machine::{Allotment, HostLayout, IdMap, Machine};
use orangery_runtime::plan::wire::{self, Message};
use orangery_runtime::rootfs::{Archive, Kind, UnpackLimits};
use orangery_runtime::spec::{Hold, UserNamespace, check, oci, size, user};

pub use mutate::Seeded;

/// What a fuzzer calls.
pub type Target = fn(&[u8]);

/// Each with its name, which is also its corpus.
pub const TARGETS: [(&str, Target); 13] = [
    ("plan", plan),
    ("message", message),
    ("answer", answer),
    ("record", record),
    ("state", state),
    ("create", create),
    ("bundle", bundle),
    ("bundle_plan", bundle_plan),
    ("users", users),
    ("kernel_text", kernel_text),
    ("sizes", sizes),
    ("up", up),
    ("archive", archive),
];

/// The keeper's check of a plan: what is accepted can be walked to the last string.
pub fn plan(data: &[u8]) {
    let Some((fds, plan)) = data.split_first() else { return };
    let Ok(header) = wire::check(plan, usize::from(*fds % 32)) else { return };
    for index in 0..header.steps {
        let step = wire::step(plan, index).expect("a step of a checked plan");
        for offset in [step.s, step.t] {
            let _ = wire::string(plan, offset);
        }
        let _ = wire::list_end(plan, step.s, step.n.min(4096));
    }
    let _ = wire::read_report(plan);
}

/// The head of a message: what is decoded survives its encoding.
pub fn message(data: &[u8]) {
    let Some(message) = Message::decode(data) else { return };
    assert_eq!(Message::decode(&message.encode()), Some(message));
}

/// What a keeper tells a further supervisor: what is understood survives its encoding.
pub fn answer(data: &[u8]) {
    let Some(message) = Message::decode(data) else { return };
    for received in 0..3 {
        if let Some(Some(_)) = message.tells_with(data, received) {
            assert!(received == 1, "one descriptor is all that is ever told");
        }
    }
    let body = data.get(wire::body_at(message.fds)..).unwrap_or_default();
    if let Some(drained) = Drained::decode(body).filter(|drained| drained.errno >= 0) {
        assert_eq!(Drained::decode(&drained.encode()), Some(drained));
    }
    let label = body.get(wire::DRAINED..).unwrap_or_default();
    if let Some((kind, request, label)) = durable::read_label(label) {
        assert!(label.len() <= Hold::LABEL, "{kind:?} {request}: a label of {} bytes", label.len());
    }
}

/// What a supervisor has written down: refused with a field, or the same when it is written once more.
pub fn record(data: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<ContainerRecord>(data) {
        let again = serde_json::to_vec(&record).expect("written");
        assert_eq!(serde_json::from_slice::<ContainerRecord>(&again).ok(), Some(record.clone()));
        if let Err(error) = record.check() {
            assert!(error.field().is_some(), "a refusal names its field");
        }
    }
    if let Ok(record) = serde_json::from_slice::<ProcessRecord>(data) {
        let again = serde_json::to_vec(&record).expect("written");
        assert_eq!(serde_json::from_slice::<ProcessRecord>(&again).ok(), Some(record.clone()));
        // Whatever stands in it: looked for, and not believed.
        let _ = record.check().is_ok() && record.process().find().is_some();
    }
}

/// What lies in a state directory: a container, an end, a service, a group; refused, or the same when it is written once more.
pub fn state(data: &[u8]) {
    orangery::testing::known_records(data).expect("the same once more");
}

/// What a client asks a daemon for: refused, or understood again when it was written down.
pub fn create(data: &[u8]) {
    if let Ok(create) = serde_json::from_slice::<Create>(data) {
        let again = serde_json::to_vec(&create).expect("written");
        // A number with more digits than a double has comes back as its neighbour.
        assert!(serde_json::from_slice::<Create>(&again).is_ok(), "written, and not understood any more");
    }
    let _ = serde_json::from_slice::<Asked>(data);
}

/// A `config.json`: understood, or refused with a reason for each refusal.
pub fn bundle(data: &[u8]) {
    if let Err(errors) = oci::parse(Path::new("/bundle"), data) {
        assert!(!errors.0.is_empty(), "refused without a reason");
        assert!(errors.0.iter().all(|error| error.field().is_some()), "a refusal names its field");
    }
}

/// A `config.json` that is understood comes to a plan that its keeper takes, and that can be explained; or it is refused.
pub fn bundle_plan(data: &[u8]) {
    let _ = planned(data);
}

/// How many steps its plan has, or why it has none.
///
/// # Errors
/// What is refused, in words.
pub fn planned(data: &[u8]) -> Result<usize, String> {
    static MACHINE: LazyLock<Machine> = LazyLock::new(|| Machine {
        privileged: true,
        whole: true,
        enters_pidns: true,
        nofile: (1024, 4096),
        host: HostLayout::default(),
        cgroup2: true,
        cgroup1: vec!["cpu,cpuacct".into(), "memory".into(), "name=systemd".into()],
        user_namespace: None,
        counts_by_namespace: true,
    });
    let (mut container, main) = oci::parse(Path::new("/"), data).map_err(|errors| errors.to_string())?;
    container.id = "fuzzed".into();
    container.cgroups_path = None;
    // No cgroups here: what is left are those that nobody asked a kernel for.
    container.limits = Limits::default();
    container.device_rules.clear();
    let own = container.user_namespace == UserNamespace::Own;
    let spec =
        check::check(container, main, &MACHINE, &Cgroups::none("a fuzzer")).map_err(|errors| errors.to_string())?;
    let mut steps = 0;
    for leaves in [false, true] {
        let ids = own.then(|| IdMap::single(0, 0, 0, 0));
        let allotment = Allotment { ids, leaves, cgroup: true, legacy: vec!["memory"], ..Allotment::default() };
        let plan = container::plan(&Context { spec: &spec, machine: &MACHINE, allotment: &allotment });
        wire::check(plan.bytes(), plan.needs().len()).expect("a plan of ours is taken");
        steps = plan.steps().count();
        assert_eq!(explain::lines(&plan).len(), steps, "each step is explained");
    }
    Ok(steps)
}

/// A container's passwd and group, which its image wrote: request, passwd and group, with a NUL in between.
pub fn users(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let asked = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let Ok(request) = user::parse_user(&asked) else { return };
    if let Ok(found) = user::resolve(&request, parts.next(), parts.next()) {
        assert!(found.home.is_none_or(|home| home.starts_with('/')), "a home is an absolute path");
        assert!(!found.groups.contains(&found.gid), "the group itself is no supplementary one");
    }
}

/// mountinfo and cgroup of /proc: paths in them are what users have called their directories.
pub fn kernel_text(data: &[u8]) {
    cgroup::read_kernel_text(data);
}

/// `64M`, `0.5` and their like.
pub fn sizes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = size::parse_size(&text);
    if let Ok((quota, period)) = size::parse_cpus(&text) {
        assert!(quota > 0 && period > 0, "{text:?}: {quota} of {period}");
    }
}

/// A file of `orangery up`: understood, or refused with a place for each refusal.
pub fn up(data: &[u8]) {
    if let Err(refusals) = orangery_cli::check_up_file(&String::from_utf8_lossy(data)) {
        assert!(!refusals.is_empty(), "refused without a reason");
        for refusal in refusals {
            let place = refusal.strip_prefix("up.toml:").and_then(|rest| rest.split_once(':'));
            assert!(place.is_some_and(|(line, _)| line.parse::<u32>().is_ok_and(|line| line > 0)), "{refusal}");
        }
    }
}

/// A tar archive: refused with a field, or entries whose content is what they said, within the limits.
pub fn archive(data: &[u8]) {
    read_archive(data);
    // Hardly a mutant has a header whose sum is right: here each block has.
    let mut summed = data.to_vec();
    for block in summed.as_chunks_mut::<512>().0.iter_mut().filter(|block| block.iter().any(|byte| *byte != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
    }
    read_archive(&summed);
}

fn read_archive(data: &[u8]) {
    const MOST: u64 = 1 << 20;
    let mut archive = Archive::new(data, UnpackLimits::default().bytes(MOST).entries(1000).path(512));
    let mut buffer = [0; 4096];
    loop {
        let entry = match archive.next_entry() {
            Ok(Some(entry)) => entry,
            Ok(None) => return,
            Err(error) => {
                let field = error.field().expect("a refusal names its field");
                assert!(field == "archive" || field.starts_with("limits."), "{field}");
                return;
            }
        };
        assert!(entry.path.len() <= 512 && entry.mode <= 0o7777 && entry.mtime.1 < 1_000_000_000, "{entry:?}");
        let Kind::File(extent) = entry.kind else { continue };
        let mut end = 0;
        for (offset, len) in extent.pieces.iter().flatten() {
            assert!(*offset >= end && offset + len <= extent.size, "{extent:?}");
            end = offset + len;
        }
        let mut read = 0;
        while let Ok(more @ 1..) = archive.read_content(&mut buffer) {
            read += more as u64;
        }
        assert!(extent.stored() <= MOST && read <= extent.stored(), "{extent:?}: {read}");
    }
}
