//! Parts of a config.json that come alone: the process of `exec --process`, the resources of `update`. Read as what they are in a
//! whole one, so that both are understood, and refused, alike.

use std::path::Path;

use orangery_runtime::spec::{Limits, oci};
use orangery_runtime::{ContainerSpec, ProcessSpec};
use serde_json::{Value, json};

use crate::failure::Failure;

/// A `process`, beside the container's `own`: its capabilities and limits are that one's where it has none.
///
/// # Errors
/// Every refusal.
pub(crate) fn process(text: &[u8], own: &ProcessSpec) -> Result<ProcessSpec, Failure> {
    let value: Value = serde_json::from_slice(text).map_err(|error| Failure::new(format!("process: {error}")))?;
    let mut part = json!({ "process": value });
    oci::keys_as_specified(&mut part)?;
    let says = |key: &str| !part["process"][key].is_null();
    let (caps, score) = (says("capabilities"), says("oomScoreAdj"));
    let mut process = whole(part)?.1;
    if !caps {
        process.caps = own.caps;
    }
    if process.rlimits.is_empty() {
        process.rlimits.clone_from(&own.rlimits);
    }
    if !score {
        process.oom_score_adj = own.oom_score_adj;
    }
    Ok(process)
}

/// `linux.resources`.
///
/// # Errors
/// Every refusal.
pub(crate) fn limits(resources: &Value) -> Result<Limits, Failure> {
    let mut resources = resources.clone();
    lift(&mut resources);
    Ok(whole(json!({ "linux": { "resources": resources } }))?.0.limits)
}

/// -1 takes a limit away, and 0 the rate of a device. In an update nothing is said by what is missing, so it is the most that the kernel takes.
fn lift(resources: &mut Value) {
    let bounded = resources.pointer("/memory/limit").and_then(Value::as_i64).is_some_and(|limit| limit > 0);
    let mut all = vec![("/memory/limit", i64::MAX), ("/pids/limit", 4 << 20), ("/cpu/quota", (1 << 44) - 1)];
    if bounded {
        // Memory and swap together.
        all.push(("/memory/swap", i64::MAX));
    }
    for (path, most) in all {
        if let Some(value) = resources.pointer_mut(path)
            && value.as_i64() == Some(-1)
        {
            *value = most.into();
        }
    }
    for kind in ["ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"] {
        let list = resources.pointer_mut(&format!("/blockIO/throttle{kind}Device")).and_then(Value::as_array_mut);
        for entry in list.into_iter().flatten() {
            if entry["rate"].as_u64() == Some(0) {
                entry["rate"] = u64::MAX.into();
            }
        }
    }
}

fn whole(part: Value) -> Result<(ContainerSpec, ProcessSpec), Failure> {
    let kinds = ["mount", "pid", "ipc", "uts", "network"];
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": "/" },
        "process": { "args": ["-"], "cwd": "/", "user": { "uid": 0, "gid": 0 } },
        "linux": {},
    });
    if let (Value::Object(config), Value::Object(part)) = (&mut config, part) {
        config.extend(part);
    }
    config["linux"]["namespaces"] = namespaces.into();
    Ok(oci::parse(Path::new("/"), config.to_string().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_as_in_the_whole() {
        let process = |text: &[u8]| process(text, &ProcessSpec::default());
        let text = br#"{"args":["id","-u"],"cwd":"/tmp","user":{"uid":7,"gid":8},"env":["A=b"]}"#;
        let said = process(text).unwrap();
        assert_eq!(said.argv, ["id", "-u"]);
        assert_eq!(said.cwd.as_deref(), Some(Path::new("/tmp")));
        assert!(process(b"[]").is_err());
        let text = br#"{"args":["x"],"cwd":"/","user":{"uid":0,"gid":0},"consoleSize":{"height":0,"width":9}}"#;
        assert!(process(text).is_err());
        let limits = limits(&json!({ "memory": { "limit": 1_048_576 }, "pids": { "limit": 9 } })).unwrap();
        assert_eq!((limits.memory, limits.pids), (Some(1 << 20), Some(9)));
    }

    #[test]
    fn what_a_process_does_not_say_is_the_containers() {
        let own = br#"{"args":["a"],"cwd":"/","user":{"uid":0,"gid":0},"oomScoreAdj":7,
            "rlimits":[{"type":"RLIMIT_NOFILE","soft":64,"hard":64}],"capabilities":{"bounding":["CAP_KILL"]}}"#;
        let own = process(own, &ProcessSpec::default()).unwrap();
        let process = |text: &[u8]| {
            let said = process(text, &own).unwrap();
            (said.caps, said.rlimits, said.oom_score_adj)
        };
        let theirs = (own.caps, own.rlimits.clone(), Some(7));
        assert_eq!(process(br#"{"args":["b"],"cwd":"/","user":{"uid":0,"gid":0},"rlimits":[]}"#), theirs);
        let text = br#"{"args":["b"],"cwd":"/","user":{"uid":0,"gid":0},"oomScoreAdj":8,"Capabilities":{},
            "rlimits":[{"type":"RLIMIT_CORE","soft":0,"hard":0}]}"#;
        let (caps, rlimits, score) = process(text);
        assert!(caps.unwrap().bounding.names().is_empty());
        assert!(rlimits.len() == 1 && rlimits != own.rlimits && score == Some(8));
    }

    #[test]
    fn nothing_is_no_rate_any_more() {
        let text = br#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":0}],
            "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":7}]}}"#;
        let limits = limits(&serde_json::from_slice(text).unwrap()).unwrap();
        let [most] = limits.io_max.as_slice() else { panic!("{limits:?}") };
        assert_eq!((most.read_bps, most.write_iops, most.read_iops), (Some(u64::MAX), Some(7), None));
    }
}
