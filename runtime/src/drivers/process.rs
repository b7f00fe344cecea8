//! A process in the words of a config.json.

use serde_json::{Value, json};

use super::{UMASK, text};
use crate::spec::check::CheckedProcess;
use crate::spec::{CapSet, Caps, ProcessSpec};

/// `process` of a config.json, or the file of an `exec --process`.
pub(crate) fn written(process: &CheckedProcess) -> Value {
    let ProcessSpec { argv, env, cwd, umask, new_privileges, rlimits, oom_score_adj, tty, .. } = process.spec();
    let (uid, gid) = process.ids();
    let mut user = json!({ "uid": uid, "gid": gid, "additionalGids": process.groups() });
    // Nobody else sets one where none is given.
    user["umask"] = umask.unwrap_or(UMASK).into();
    let env: Vec<String> = env.iter().map(|(key, value)| format!("{}={}", text(key), text(value))).collect();
    let rlimit = |limit: &crate::spec::Rlimit| {
        let name = format!("RLIMIT_{}", limit.resource.name().to_ascii_uppercase());
        json!({ "type": name, "soft": limit.soft, "hard": limit.hard })
    };
    let mut made = json!({
        "terminal": tty.is_some(),
        "user": user,
        "args": argv.iter().map(text).collect::<Vec<_>>(),
        "env": env,
        "cwd": cwd.as_ref().map_or_else(|| "/".into(), text),
        "capabilities": capabilities(process.caps()),
        "rlimits": rlimits.iter().map(rlimit).collect::<Vec<_>>(),
        "noNewPrivileges": !new_privileges,
    });
    if let Some(size) = tty {
        made["consoleSize"] = json!({ "height": size.rows, "width": size.columns });
    }
    if let Some(score) = oom_score_adj {
        made["oomScoreAdj"] = (*score).into();
    }
    labelled(made, process.spec())
}

/// With what a security module knows it by.
fn labelled(mut made: Value, spec: &ProcessSpec) -> Value {
    for (key, label) in [("apparmorProfile", &spec.apparmor_profile), ("selinuxLabel", &spec.selinux_label)] {
        if let Some(label) = label {
            made[key] = label.as_str().into();
        }
    }
    made
}

fn capabilities(caps: &Caps) -> Value {
    let names = |set: CapSet| set.names();
    json!({
        "bounding": names(caps.bounding),
        "effective": names(caps.effective),
        "permitted": names(caps.permitted),
        "inheritable": names(caps.inheritable),
        "ambient": names(caps.ambient),
    })
}

/// The first process of a container whose command is not pid 1: ours, which reaps and sleeps, with no rights.
pub(super) fn init(main: &CheckedProcess, program: &str) -> Value {
    let none = capabilities(&Caps::none());
    // Some give it to all that come after it.
    let user = json!({ "uid": 0, "gid": 0, "umask": main.spec().umask.unwrap_or(UMASK) });
    // It takes these words for what it is to be.
    let args = [program, "as", "the", "init"];
    let no_new = !main.spec().new_privileges;
    let made = json!({
        "terminal": false, "user": user, "args": args, "env": [], "cwd": "/", "capabilities": none,
        "noNewPrivileges": no_new,
    });
    labelled(made, main.spec())
}
