//! What a client asks for becomes a command: by the keys, the parsers and the refusals of a file of `up`, which are the options
//! of `run`. What would mean another thing here than where it was written is refused.

use std::path::Path;

use orangery::Supervisor;
use orangery::runtime::spec::StagedFile;
use orangery_daemon::server::{self, MadeGroup, Make};
use orangery_daemon::wire::{Create, CreateGroup, Problem, ProblemKind, Refused, Spec, Tty};
use serde_json::{Map, Value, json};

use super::toml::inline;
use crate::up::build::{self, Beside};
use crate::up::file::{self, File, Member, MemberKind, Refusal, Service, Text};
use crate::up::schema;

/// See the file's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Made;

/// The name of the one service of a file that is made of one spec.
const ONE: &str = "spec";

impl Make for Made {
    fn command(
        &self,
        supervisor: &Supervisor,
        name: &str,
        create: &Create,
        log: &Path,
    ) -> Result<server::Made, Box<Problem>> {
        let spec = own(create.spec.0.clone(), log)?;
        let file = json!({ "service": { ONE: spec } });
        let read = read(&file).map_err(|refusals| problem(refusals, bare))?;
        let Some(service) = read.members.into_iter().find_map(one) else {
            return Err(refused("spec", "there is nothing in it"));
        };
        let beside = Beside { files: files(create)?, tty: !create.tty.is_none() };
        let command = build::command(supervisor, name, &service, beside);
        let command = command.map_err(|refusals| problem(refusals, bare))?;
        let command = command.stdin(server::stdin(create.stdin));
        let command = match create.tty {
            Tty::Sized(size) => command.tty_size(size.rows, size.columns),
            Tty::Usual(_) => command,
        };
        let work = &service.said.work;
        Ok(server::Made { command, kept: work.restart.restart(&work.exits).is_some() })
    }

    fn group(&self, supervisor: &Supervisor, create: &CreateGroup, logs: &Path) -> Result<MadeGroup, Box<Problem>> {
        let mut file = create.file.clone();
        file.remove("name");
        let mut members = Vec::new();
        with_logs(&mut file, &create.name, logs, &mut members)?;
        let read = read(&Value::Object(file)).map_err(|refusals| problem(refusals, str::to_owned))?;
        let built = build::build(supervisor, read, &create.name);
        let built = built.map_err(|refusals| problem(refusals, str::to_owned))?;
        let spec = |name: &str| members.iter().find(|(of, _)| of == name).map(|(_, spec)| Spec(spec.clone()));
        let create = |name: &str| Create { spec: spec(name).unwrap_or_default(), start: true, ..Create::default() };
        let members = built.units.iter().map(|unit| (unit.id.clone(), create(&unit.id))).collect();
        Ok(MadeGroup { group: built.group, members })
    }

    fn spec_schema(&self) -> Value {
        let mut schema = schema::service();
        if let Some(keys) = schema["properties"].as_object_mut() {
            keys.retain(|key, _| !OURS.contains(&key.as_str()));
        }
        schema
    }
}

/// Keys that are not for clients.
const OURS: [&str; 2] = ["log", "after"];

fn read(file: &Value) -> Result<File, Vec<Refusal>> {
    let tables = file.as_object().into_iter().flatten();
    let mut text = String::new();
    for (key, value) in tables {
        let value = inline(value).map_err(|path| vec![Refusal::new(&(0..0), format!("{key}.{path}"), NULL)])?;
        let key = inline(&Value::from(key.as_str())).unwrap_or_default();
        text += &format!("{key} = {value}\n");
    }
    let text = Text::new("the body", text.into_bytes());
    file::read(&text.map_err(|_| vec![Refusal::new(&(0..0), "", "this is no text")])?)
}

const NULL: &str = "null is no value here: leave the key out";

fn one(member: Member) -> Option<Box<Service>> {
    match member.kind {
        MemberKind::Service(service) => Some(service),
        MemberKind::Group(_) => None,
    }
}

fn refused(field: &str, why: impl Into<String>) -> Box<Problem> {
    Box::new(Problem::new(ProblemKind::Invalid, why).field(field))
}

/// The key alone, of what is in the one service.
fn bare(field: &str) -> String {
    let rest = field.strip_prefix("service.").and_then(|rest| rest.strip_prefix(ONE));
    match rest.map(|rest| rest.strip_prefix('.').unwrap_or(rest)) {
        Some("") | None => ONE.to_owned(),
        Some(key) => key.to_owned(),
    }
}

fn problem(refusals: Vec<Refusal>, field: impl Fn(&str) -> String) -> Box<Problem> {
    // What can be mended by who asks comes before what cannot.
    let machine: Option<Vec<_>> = refusals.iter().map(|refusal| refusal.machine.as_deref()).collect();
    let kind = machine.and_then(|kinds| kinds.first().map(|kind| ProblemKind::by_name(kind)));
    let told =
        |refusal: Refusal| Refused { field: Some(field(&refusal.field)), detail: refusal.what, hint: refusal.hint };
    let problem = Problem::refused(refusals.into_iter().map(told).collect());
    let problem = problem.map_or_else(|| refused("spec", "it is refused"), Box::new);
    match kind {
        Some(kind) => Box::new(problem.of_kind(kind)),
        None => problem,
    }
}

/// With what is ours to say, and nothing that means something else here.
fn own(mut spec: Map<String, Value>, log: &Path) -> Result<Map<String, Value>, Box<Problem>> {
    if let Some(key) = OURS.into_iter().find(|key| spec.contains_key(*key)) {
        let why = if key == "log" { "the daemon keeps the log" } else { "it is alone: groups have members in order" };
        return Err(refused(key, why));
    }
    for key in ["rootfs", "bundle", "device", "mount", "join", "env"] {
        texts(spec.get(key)).try_for_each(|text| means_the_same(key, text).map_err(|why| refused(key, why)))?;
    }
    // What is unpacked for one container does not outlive its supervisor; a directory does.
    if spec.get("rootfs").and_then(Value::as_str).is_some_and(|path| Path::new(path).is_file()) {
        let why =
            "this is an archive, and a container of the daemon needs a directory: `orangery rootfs unpack` makes one";
        return Err(refused("rootfs", why));
    }
    spec.insert("log".into(), log.to_string_lossy().into());
    Ok(spec)
}

/// The texts of a value, which may be one or a list of them.
fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    value.into_iter().chain(list).filter_map(Value::as_str)
}

/// Whether a word means here what it means where it was written: a daemon has a directory and variables of its own.
fn means_the_same(key: &str, text: &str) -> Result<(), String> {
    let paths: Vec<&str> = match key {
        "env" if text.contains('=') => return Ok(()),
        "env" => return Err(format!("{text:?} has no value, and the daemon's own is not for containers")),
        "mount" => {
            let parts = text.split(',').filter_map(|part| part.split_once('='));
            parts.filter(|(name, _)| matches!(*name, "src" | "source")).map(|(_, path)| path).collect()
        }
        "join" => text.split_once('=').map(|(_, path)| path).into_iter().collect(),
        _ => vec![text],
    };
    match paths.into_iter().find(|path| !Path::new(path).is_absolute()) {
        Some(path) => Err(format!("{path:?} is not an absolute path, and the daemon is elsewhere")),
        None => Ok(()),
    }
}

fn files(create: &Create) -> Result<Vec<StagedFile>, Box<Problem>> {
    if !create.files.is_empty() && create.spec.0.contains_key("bundle") {
        return Err(refused("files", "the config.json of a bundle says everything"));
    }
    let staged = |(index, file): (usize, &orangery_daemon::wire::File)| {
        let content = file.content().map_err(|why| refused(&format!("files[{index}]"), why))?;
        Ok(StagedFile { path: (&file.path).into(), content: content.into(), mode: 0o644 })
    };
    create.files.iter().enumerate().map(staged).collect()
}

/// Each service with its log, and its spec as it was said, by the name of its container.
fn with_logs(
    tables: &mut Map<String, Value>,
    path: &str,
    logs: &Path,
    members: &mut Vec<(String, Map<String, Value>)>,
) -> Result<(), Box<Problem>> {
    for (name, service) in tables.get_mut("service").and_then(Value::as_object_mut).into_iter().flatten() {
        let path = format!("{path}.{name}");
        let Some(said) = service.as_object_mut() else { continue };
        let after = said.remove("after");
        members.push((path.clone(), said.clone()));
        let named = |mut problem: Box<Problem>| {
            problem.field = problem.field.map(|key| format!("service.{name}.{key}"));
            problem
        };
        let mut with_log = own(said.clone(), &logs.join(&path)).map_err(named)?;
        with_log.extend(after.map(|after| ("after".to_owned(), after)));
        *said = with_log;
    }
    for (name, group) in tables.get_mut("group").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(group) = group.as_object_mut() {
            with_logs(group, &format!("{path}.{name}"), logs, members)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(spec: Value) -> Problem {
        let Value::Object(spec) = spec else { panic!("{spec}") };
        let own = own(spec, Path::new("/log"));
        let told = own.and_then(|spec| read(&json!({ "service": { ONE: spec } })).map_err(|all| problem(all, bare)));
        *told.unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        for (spec, field, what) in [
            (json!({ "command": ["x"], "memmory": 3 }), "memmory", "no such key"),
            (json!({ "command": ["x"], "memory": "64Q" }), "memory", "64Q"),
            (json!({ "command": ["x"], "memory": [1] }), "memory", "one value"),
            (json!({ "command": ["x"], "host-opt": "yes" }), "host-opt", "true or false"),
            (json!({ "command": ["x"], "pids": null }), "pids", "null"),
            (json!({ "memory": 3 }), "spec", "command is missing"),
            (json!({ "command": ["x"], "rootfs": "rel" }), "rootfs", "absolute"),
            (json!({ "command": ["x"], "mount": ["type=bind,src=rel,dst=/x"] }), "mount", "absolute"),
            (json!({ "command": ["x"], "env": ["HOME"] }), "env", "no value"),
            (json!({ "command": ["x"], "log": "/x" }), "log", "daemon"),
            (json!({ "command": ["x"], "after": ["y"] }), "after", "alone"),
            (json!({ "command": ["x"], "restart-delay": "1s" }), "restart-delay", "needs restart"),
        ] {
            let problem = refusal(spec.clone());
            assert_eq!((problem.status, problem.field.as_deref()), (422, Some(field)), "{spec}: {problem:?}");
            assert!(problem.detail.contains(what), "{spec}: {problem:?}");
        }
        let both = refusal(json!({ "command": ["x"], "memory": "64Q", "pids": "many" }));
        assert_eq!(both.also.len(), 1, "{both:?}");
    }

    #[test]
    fn what_the_machine_refuses_is_not_the_clients_fault() {
        let refusal = |machine: Option<&str>| Refusal {
            machine: machine.map(str::to_owned),
            ..Refusal::new(&(0..0), "service.spec.memory", "there is no cgroup")
        };
        let told = |refusals| {
            let problem = problem(refusals, bare);
            (problem.status, problem.kind, problem.field.clone().unwrap_or_default())
        };
        let memory = || "memory".to_owned();
        assert_eq!(told(vec![refusal(Some("unsupported"))]), (501, ProblemKind::Unsupported, memory()));
        assert_eq!(told(vec![refusal(Some("permission")); 2]), (500, ProblemKind::Permission, memory()));
        assert_eq!(
            told(vec![refusal(Some("unsupported")), refusal(None)]),
            (422, ProblemKind::Invalid, memory()),
            "what is wrong by itself is said first of all"
        );
    }

    #[test]
    fn numbers_and_tables_are_values() {
        let spec = json!({ "command": ["x"], "memory": 4096, "cpus": 0.5, "env": { "PORT": 8080, "A": "b" }, "label": ["a=b"] });
        let Value::Object(spec) = spec else { panic!() };
        let file = read(&json!({ "service": { ONE: own(spec, Path::new("/log")).unwrap() } })).unwrap();
        let service = file.members.into_iter().find_map(one).unwrap();
        assert_eq!(service.said.work.limits.memory, Some(4096));
        assert_eq!(service.said.work.program.env.len(), 2);
        assert_eq!(service.said.work.log.log.as_deref(), Some(Path::new("/log")));
    }
}
