//! Namespaces: new ones, existing ones by path, the caller's own where none is listed; and the ids of a user namespace.

use std::path::Path;
use std::sync::Arc;

use oci_spec::runtime as oci;
use oci_spec::runtime::LinuxNamespaceType as Type;

use super::Refusals;
use crate::spec::{
    ClockOffset, ContainerSpec, IdRange, IdRanges, Network, SharedNamespace, TimeOffsets, UserNamespace, namespaces,
};

/// Those that a container shares with whoever makes it, unless they are listed.
const SHARED: [(Type, SharedNamespace); 4] = [
    (Type::Pid, SharedNamespace::Pid),
    (Type::Ipc, SharedNamespace::Ipc),
    (Type::Uts, SharedNamespace::Uts),
    (Type::Cgroup, SharedNamespace::Cgroup),
];

pub(super) fn convert(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    let list = linux.namespaces().clone().unwrap_or_default();
    for (index, namespace) in list.iter().enumerate() {
        if list.get(..index).is_some_and(|before| before.iter().any(|other| other.typ() == namespace.typ())) {
            no.add(&format!("linux.namespaces[{index}].type"), format!("a second {} namespace", namespace.typ()));
        } else if let Some(path) = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
            join(no, container, &format!("linux.namespaces[{index}].path"), namespace.typ(), path);
        }
    }
    let has = |kind: Type| list.iter().any(|namespace| namespace.typ() == kind);
    let new = |kind: Type| {
        let is_new = |path: Option<&Path>| path.is_none_or(|path| path.as_os_str().is_empty());
        list.iter().any(|namespace| namespace.typ() == kind && is_new(namespace.path().as_deref()))
    };
    container.time = clocks(no, linux, new(Type::Time));
    if !has(Type::Mount) {
        no.add("linux.namespaces", "a container without a mount namespace of its own would change the host's mounts");
    }
    container.shared = SHARED.iter().filter(|(kind, _)| !has(*kind)).map(|(_, shared)| *shared).collect();
    container.network = if has(Type::Network) { Network::None } else { Network::Host };
    container.user_namespace = if has(Type::User) { UserNamespace::Own } else { UserNamespace::Host };
    ids(no, linux, container, &list);
}

fn ids(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec, list: &[oci::LinuxNamespace]) {
    let user = list.iter().find(|namespace| namespace.typ() == Type::User);
    let given = |maps: &Option<Vec<oci::LinuxIdMapping>>| maps.as_ref().is_some_and(|maps| !maps.is_empty());
    let (uid, gid) = (given(linux.uid_mappings()), given(linux.gid_mappings()));
    let joins = user.and_then(|user| user.path().as_deref()).is_some_and(|path| !path.as_os_str().is_empty());
    match user {
        Some(_) if joins && (uid || gid) => {
            no.add("linux.uidMappings", "a user namespace that is joined has its ids already");
        }
        Some(_) if joins => {}
        Some(_) if uid && gid => {
            container.id_maps = Some(IdRanges { uid: ranges(linux.uid_mappings()), gid: ranges(linux.gid_mappings()) });
        }
        Some(_) => {
            let field = if uid { "linux.gidMappings" } else { "linux.uidMappings" };
            no.add(field, "a new user namespace needs maps of user and group ids");
        }
        None if uid || gid => {
            no.add("linux.uidMappings", "ids are mapped in a user namespace, and none is listed");
        }
        None => {}
    }
}

/// Of a namespace that is new: nobody can change the clocks of one that exists.
fn clocks(no: &mut Refusals, linux: &oci::Linux, new: bool) -> Option<TimeOffsets> {
    let mut offsets = TimeOffsets::default();
    for (clock, offset) in linux.time_offsets().iter().flatten() {
        let field = format!("linux.timeOffsets.{clock}");
        let of = match clock.as_str() {
            "monotonic" => &mut offsets.monotonic,
            "boottime" => &mut offsets.boottime,
            _ => {
                no.add(&field, "monotonic and boottime are the clocks that can be ahead");
                continue;
            }
        };
        *of = ClockOffset { secs: offset.secs().unwrap_or(0), nanos: offset.nanosecs().unwrap_or(0) };
        if !new {
            no.add(&field, "clocks are ahead in a new time namespace, and none is listed");
        }
    }
    new.then_some(offsets)
}

pub(super) fn ranges(maps: &Option<Vec<oci::LinuxIdMapping>>) -> Vec<IdRange> {
    let range =
        |map: &oci::LinuxIdMapping| IdRange { inside: map.container_id(), outside: map.host_id(), count: map.size() };
    maps.iter().flatten().map(range).collect()
}

/// An existing namespace instead of a new one.
fn join(no: &mut Refusals, container: &mut ContainerSpec, field: &str, kind: Type, path: &Path) {
    let kind = match kind {
        Type::Network => "net",
        Type::Ipc => "ipc",
        Type::Uts => "uts",
        Type::Cgroup => "cgroup",
        Type::Pid => "pid",
        Type::User => "user",
        Type::Mount => {
            return no.add(field, "a mount namespace that is joined has its root already, and so has a bundle");
        }
        Type::Time => "time",
    };
    if !path.is_absolute() {
        return no.add(field, format!("{} is not an absolute path", path.display()));
    }
    match namespaces::open(kind, path) {
        Ok(namespace) => container.join.push(Arc::new(namespace)),
        Err(error) => no.0.push(error.with_field(field)),
    }
}
