//! Keys of `config.json` in other cases than the specification's: `"CPU": {"Cpus": "1"}`. Whoever reads with Go's JSON, as runc does,
//! takes them for the fields they look like, and others ignore them in silence: a limit would be lost. They are taken here too, but
//! not beside the exact key, where nobody can say which of both was meant.

use serde_json::{Map, Value};

use super::Refusals;

/// Every key of the specification for Linux, in order.
const KEYS: [&str; 152] = [
    "access",
    "action",
    "additionalGids",
    "allow",
    "ambient",
    "annotations",
    "apparmorProfile",
    "architectures",
    "args",
    "blockIO",
    "boottime",
    "bounding",
    "burst",
    "capabilities",
    "cgroupsPath",
    "checkBeforeUpdate",
    "class",
    "classID",
    "closID",
    "commandLine",
    "consoleSize",
    "containerID",
    "cpu",
    "cpus",
    "createContainer",
    "createRuntime",
    "cwd",
    "deadline",
    "defaultAction",
    "defaultErrnoRet",
    "destination",
    "devices",
    "disableOOMKiller",
    "domain",
    "domainname",
    "effective",
    "enableMonitoring",
    "env",
    "errnoRet",
    "execCPUAffinity",
    "fileMode",
    "final",
    "flags",
    "gid",
    "gidMappings",
    "hard",
    "hcaHandles",
    "hcaObjects",
    "height",
    "hooks",
    "hostID",
    "hostname",
    "hugepageLimits",
    "idle",
    "index",
    "inheritable",
    "initial",
    "intelRdt",
    "ioPriority",
    "kernel",
    "kernelTCP",
    "l3CacheSchema",
    "leafWeight",
    "limit",
    "linux",
    "listenerMetadata",
    "listenerPath",
    "major",
    "maskedPaths",
    "memBwSchema",
    "memory",
    "memoryPolicy",
    "mems",
    "minor",
    "mode",
    "monotonic",
    "mountLabel",
    "mounts",
    "name",
    "names",
    "namespaces",
    "nanosecs",
    "netDevices",
    "network",
    "nice",
    "noNewPrivileges",
    "nodes",
    "ociVersion",
    "oomScoreAdj",
    "op",
    "options",
    "pageSize",
    "path",
    "period",
    "permitted",
    "personality",
    "pids",
    "policy",
    "poststart",
    "poststop",
    "prestart",
    "priorities",
    "priority",
    "process",
    "quota",
    "rate",
    "rdma",
    "readonly",
    "readonlyPaths",
    "realtimePeriod",
    "realtimeRuntime",
    "reservation",
    "resources",
    "rlimits",
    "root",
    "rootfsPropagation",
    "runtime",
    "scheduler",
    "schemata",
    "seccomp",
    "secs",
    "selinuxLabel",
    "shares",
    "size",
    "soft",
    "source",
    "startContainer",
    "swap",
    "swappiness",
    "syscalls",
    "sysctl",
    "terminal",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "timeOffsets",
    "timeout",
    "type",
    "uid",
    "uidMappings",
    "umask",
    "unified",
    "useHierarchy",
    "user",
    "username",
    "value",
    "valueTwo",
    "vm",
    "weight",
    "weightDevice",
    "width",
];

/// Those whose keys are somebody's names. Of the first three the values are texts, of the others fields again.
const NAMED: [&str; 5] = ["annotations", "sysctl", "unified", "rdma", "netDevices"];

/// Give every key of `config` the specification's case.
pub(super) fn as_specified(no: &mut Refusals, config: &mut Value) {
    fields("", config, no);
}

fn fields(path: &str, value: &mut Value, no: &mut Refusals) {
    match value {
        Value::Object(object) => {
            respell(path, object, no);
            for (key, value) in object {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (NAMED.contains(&key.as_str()), value) {
                    (true, Value::Object(named)) => {
                        named.iter_mut().for_each(|(name, value)| fields(&format!("{below}.{name}"), value, no));
                    }
                    (_, value) => fields(&below, value, no),
                }
            }
        }
        Value::Array(list) => {
            list.iter_mut().enumerate().for_each(|(index, value)| fields(&format!("{path}[{index}]"), value, no));
        }
        _ => {}
    }
}

fn respell(path: &str, object: &mut Map<String, Value>, no: &mut Refusals) {
    let other = |key: &String| {
        // As nearly all are.
        if KEYS.binary_search(&key.as_str()).is_ok() {
            return None;
        }
        let exact = KEYS.into_iter().find(|exact| exact.eq_ignore_ascii_case(key))?;
        Some((key.clone(), exact))
    };
    let others: Vec<_> = object.keys().filter_map(other).collect();
    for (key, exact) in others {
        let Some(value) = object.remove(&key) else { continue };
        if object.contains_key(exact) {
            let field = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            no.add(&field, format!("{exact:?} is there as well, and both are the same field to some who read it"));
        } else {
            object.insert(exact.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(mut config: Value) -> (Value, Vec<String>) {
        let mut no = Refusals(Vec::new());
        as_specified(&mut no, &mut config);
        (config, no.0.iter().filter_map(|error| error.field().map(str::to_owned)).collect())
    }

    #[test]
    fn keys_are_in_order() {
        assert!(KEYS.is_sorted());
    }

    #[test]
    fn a_key_in_another_case_is_the_field() {
        let (config, no) = read(json!({
            "Linux": { "Resources": { "CPU": { "Cpus": "1" }, "blockio": { "Weight": 7 } } },
            "MOUNTS": [{ "Destination": "/a" }],
        }));
        let said = json!({
            "linux": { "resources": { "cpu": { "cpus": "1" }, "blockIO": { "weight": 7 } } },
            "mounts": [{ "destination": "/a" }],
        });
        assert_eq!((config, no), (said, vec![]));
    }

    #[test]
    fn names_of_somebody_stay_as_they_are() {
        let named = json!({
            "annotations": { "Type": "x", "CPU": "y" },
            "linux": {
                "sysctl": { "Memory": "1" },
                "netDevices": { "Name": { "name": "eth0" } },
                "resources": { "unified": { "Memory": "1" }, "rdma": { "Limit": { "hcaHandles": 1 } } },
            },
            "unknown": { "Odd": [1, "Type"] },
        });
        assert_eq!(read(named.clone()), (named, vec![]));
        let (below, _) = read(json!({ "linux": { "netDevices": { "Name": { "NAME": "eth0" } } } }));
        assert_eq!(below["linux"]["netDevices"]["Name"]["name"], "eth0");
    }

    #[test]
    fn one_field_is_not_said_twice() {
        let (_, no) =
            read(json!({ "process": { "args": [], "Args": ["x"] }, "mounts": [{ "TYPE": "a", "Type": "b" }] }));
        assert_eq!(no, ["mounts[0].Type", "process.Args"]);
    }

    #[test]
    fn keys_differ_in_more_than_their_case() {
        let mut all: Vec<_> = KEYS.iter().map(|key| key.to_ascii_lowercase()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), KEYS.len());
    }

    #[test]
    fn what_is_documented_is_known() {
        // The first column of the table: `linux.seccomp`, or `root.path`, `root.readonly`.
        let table = include_str!("../../../../docs/oci-fields.md").lines().filter_map(|line| line.strip_prefix("| `"));
        for field in table.filter_map(|line| line.split(" | ").next()) {
            for word in field.split('`').step_by(2).flat_map(|name| name.split('.')).filter(|word| !word.is_empty()) {
                assert!(KEYS.contains(&word), "{word} of {field}");
            }
        }
    }
}
