//! What can be seen of a container, as lines that can be compared: a name for each, and what it is.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::config::Here;
use crate::run::Ended;

/// Lines by name.
pub(crate) type Seen = BTreeMap<String, String>;

/// Of /proc/self/status; the others are counters and places in memory.
const STATUS: [&str; 19] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "Threads",
    "SigBlk",
    "SigIgn",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Speculation_Store_Bypass",
    "SpeculationIndirectBranch",
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "CoreDumping",
];

/// Flat.
pub(crate) fn flat(ended: &Ended, here: Here<'_>) -> Seen {
    let mut seen = Seen::new();
    let [looked, saw] = ended.report.as_slice() else {
        // A signal of its own, or an exit code of its own: whatever is not told by the runtime.
        let code = if ended.code == "Some(0)" || ended.code.starts_with("signal") || ended.code.starts_with("Some(1") {
            &ended.code
        } else {
            "refused"
        };
        seen.insert("result".to_owned(), if code == "Some(1)" { "refused" } else { code }.to_owned());
        seen.insert("told".to_owned(), ended.told.trim().to_owned());
        return seen;
    };
    seen.insert("result".to_owned(), format!("ran, {}", ended.code));
    seen.insert("told".to_owned(), ended.told.trim().to_owned());
    let mut put = |name: String, value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        seen.insert(name, text.replace(here.bundle, "BUNDLE").replace(here.cgroup, "CGROUP"));
    };
    for (key, value) in looked.as_object().into_iter().flatten() {
        let mut value = value.clone();
        // Who has no right to a file of a file system that is not written anyway is told either.
        for errno in value.as_object_mut().filter(|_| key == "writes").into_iter().flat_map(|all| all.values_mut()) {
            if [-13, -30].contains(&errno.as_i64().unwrap_or(0)) {
                *errno = "refused".into();
            }
        }
        each(key, &value, &mut put);
    }
    // Where it sees the others a number of its own, which is another one each time.
    let leads = (saw["pid"] == saw["sid"]).to_string();
    put("leads its session".to_owned(), &leads.into());
    for key in ["cwd", "hostname", "oom_score_adj", "env", "interfaces", "root"] {
        put(key.to_owned(), &saw[key]);
    }
    for key in ["dev", "paths"] {
        let mut value = saw[key].clone();
        // Names and numbers of keys that are other ones each time.
        if let Some(keys) = value.get_mut("/proc/keys").and_then(|keys| keys.get_mut("content")) {
            *keys = Value::Null;
        }
        each(key, &value, &mut put);
    }
    for name in STATUS {
        put(format!("status {name}"), &saw["status"][name]);
    }
    let fds: Vec<String> = saw["fds"].as_object().into_iter().flatten().map(|(number, _)| number.clone()).collect();
    put("fds".to_owned(), &fds.into());
    for line in saw["limits"].as_array().into_iter().flatten().skip(1).filter_map(Value::as_str) {
        let (name, values) = line.split_at(line.len().min(26));
        put(format!("limit {}", name.trim()), &values.split_whitespace().collect::<Vec<_>>().join(" ").into());
    }
    for (name, link) in saw["ns"].as_object().into_iter().flatten() {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let whose = if link.as_str().is_some_and(|link| ours.as_os_str() == link) { "the caller's" } else { "its own" };
        put(format!("namespace {name}"), &whose.into());
    }
    for (name, value) in &ended.groups {
        put(format!("group {name}"), &value.as_str().into());
    }
    mounts(saw, here, &mut seen);
    seen
}

fn each(key: &str, value: &Value, put: &mut impl FnMut(String, &Value)) {
    match value.as_object() {
        Some(object) => object.iter().for_each(|(name, value)| put(format!("{key} {name}"), value)),
        None => put(key.to_owned(), value),
    }
}

/// Each with its attributes; several at one place are numbered.
fn mounts(saw: &Value, here: Here<'_>, seen: &mut Seen) {
    for line in saw["mountinfo"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(dash) = words.iter().position(|word| *word == "-") else { continue };
        let mut options: Vec<&str> = words[5].split(',').collect();
        options.sort_unstable();
        let travels: Vec<&str> = words[6..dash].iter().map(|word| word.split(':').next().unwrap_or(word)).collect();
        let mut of_all: Vec<&str> = words[dash + 3].split(',').collect();
        of_all.sort_unstable();
        let at = words[4];
        let number = (0..).find(|number| !seen.contains_key(&format!("mount {at}#{number} kind"))).unwrap_or(0);
        let mut put = |what: &str, value: String| {
            let value = value.replace(here.bundle, "BUNDLE").replace(here.cgroup, "CGROUP");
            seen.insert(format!("mount {at}#{number} {what}"), value);
        };
        put("kind", words[dash + 1].to_owned());
        put("root", words[3].to_owned());
        put("attributes", options.join(","));
        put("propagation", travels.join(","));
        put("source", words[dash + 2].to_owned());
        put("options", of_all.join(","));
    }
}
