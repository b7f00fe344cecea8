//! The calls that Cloud Foundry's Guardian, and the `dadoo` that it starts for each process, make of a runtime plugin, with what
//! they read of the answers: docs/from-garden.md.

use std::fs;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Output, Stdio};

use orangery_tests::{Scene, wait};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, all, end_of, path, pipe, text};

pub(crate) fn as_guardian_calls_it(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "garden", &["sleep", "1000"], |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 50 }, "memory": { "limit": 64 << 20 } });
    });
    let pid_file = scene.dir().join("pidfile");
    let line =
        ["run", "--detach", "--no-new-keyring", "--bundle", path(&bundle), "--pid-file", path(&pid_file), "garden"];
    let (output, log) = call(&caller, &line);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(errors(&log).is_empty(), "{log:?}");
    let init = wait::pidfd(number(&pid_file));

    let (output, _) = call(&caller, &["state", "garden"]);
    let state: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((state["pid"].as_u64(), state["status"].as_str()), (Some(number(&pid_file).into()), Some("running")));
    assert!(state["created"].as_str().is_some_and(|time| time.ends_with('Z') && time.contains('T')), "{state}");

    processes(&caller);
    counters(&caller);
    let mut events = caller.command(&["events", "garden"]).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut said = std::io::BufReader::new(events.stdout.take().expect("a pipe"));
    let mut first = String::new();
    std::io::BufRead::read_line(&mut said, &mut first).expect("a line");
    assert_eq!(serde_json::from_str::<Value>(&first).expect("JSON")["type"], "stats");

    assert!(call(&caller, &["kill", "garden", "KILL"]).0.status.success());
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
    let status = wait::child(&mut events, wait::PATIENCE).expect("waited").expect("events end with the container");
    assert!(status.success(), "{status}");
    assert!(call(&caller, &["delete", "garden"]).0.status.success());
    assert!(call(&caller, &["delete", "--force", "garden"]).0.status.success(), "it is gone already");
    let (output, log) = call(&caller, &["state", "garden"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&log).last().is_some_and(|what| what.contains("does not exist")), "{log:?}");
}

/// As dadoo does it: the process comes through its standard input and the log goes through a pipe of its, both by their names in
/// /proc; it is the subreaper.
fn processes(caller: &Caller<'_>) {
    let spec = |args: &[&str]| json!({ "args": args, "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"], "terminal": false });
    let (output, log, code) = exec(caller, &spec(&["sh", "-c", "echo out; exit 42"]));
    assert!(output.status.success() && errors(&log).is_empty(), "{output:?} {log:?}");
    assert_eq!((code, text(&output.stdout)), (Some(42), "out\n".into()));
    // Guardian tells its client that there is no such program where the last error has these words.
    for (program, words) in [
        ("no-such", "exec: \"no-such\": executable file not found in $PATH"),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory"),
        // And Docker that it may not be executed.
        ("/bin", "exec: \"/bin\": permission denied"),
    ] {
        let (output, log, _) = exec(caller, &spec(&[program]));
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        let last = errors(&log).pop().expect("an error");
        assert!(last.contains(&format!("unable to start container process: {words}")), "{last}");
        assert_eq!(
            log.last().map(|line| line["level"].clone()),
            Some("error".into()),
            "nothing comes after it: {log:?}"
        );
    }
}

/// What its metrics are made of.
fn counters(caller: &Caller<'_>) {
    let (output, _) = call(caller, &["events", "--stats", "garden"]);
    let stats: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    let data = &stats["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64() > Some(0), "{stats}");
    let raw = data["memory"]["raw"].as_object().expect("memory.stat");
    assert!(raw.contains_key("total_rss") || raw.contains_key("anon"), "{stats}");
    assert_eq!((data["pids"]["current"].as_u64(), data["pids"]["limit"].as_u64()), (Some(1), Some(50)), "{stats}");
}

/// A call with its log, each line of which is an object with these three.
fn call(caller: &Caller<'_>, line: &[&str]) -> (Output, Vec<Value>) {
    let log = caller.scene.dir().join("guardian.log");
    fs::write(&log, "").expect("a log");
    let flags = ["--debug", "--log", path(&log), "--log-format", "json"];
    let mut command = caller.command(&[&flags, line].concat());
    // The container has these as well, and longer.
    let said = caller.scene.dir().join("guardian.out");
    let file = fs::File::create(&said).expect("a file");
    let status = command.stdout(file).stderr(Stdio::null()).status().expect("it runs");
    let stdout = fs::read(said).expect("its output");
    (Output { status, stdout, stderr: Vec::new() }, lines(&fs::read_to_string(log).expect("a log")))
}

fn exec(caller: &Caller<'_>, process: &Value) -> (Output, Vec<Value>, Option<i32>) {
    let pid_file = caller.scene.dir().join("process.pid");
    let _ = fs::remove_file(&pid_file);
    let (input, to) = pipe();
    fs::File::from(to).write_all(process.to_string().as_bytes()).expect("written");
    let ((log, log_end), (said, out)) = (pipe(), pipe());
    let of = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
    let (process, log_name) = (of(input.as_raw_fd()), of(log_end.as_raw_fd()));
    let flags = ["--debug", "--log", &log_name, "--log-format", "json"];
    let line = ["exec", "-p", &process, "--detach", "--pid-file", path(&pid_file), "garden"];
    let mut command = caller.command(&[&flags[..], &line].concat());
    let status = command.stdout(out).stderr(Stdio::null()).status().expect("it runs");
    // It has our end of the pipes until it is gone.
    drop((log_end, command));
    let code = status.success().then(|| end_of(&wait::pidfd(number(&pid_file))).exit_status()).flatten();
    (Output { status, stdout: all(said).into_bytes(), stderr: Vec::new() }, lines(&all(log)), code)
}

fn lines(log: &str) -> Vec<Value> {
    let line = |line: &str| -> Value {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(["level", "msg", "time"].iter().all(|key| line[key].is_string()), "{line}");
        line
    };
    log.lines().map(line).collect()
}

fn errors(log: &[Value]) -> Vec<String> {
    let errors = log.iter().filter(|line| line["level"] == "error");
    errors.filter_map(|line| line["msg"].as_str()).map(str::to_owned).collect()
}

fn number(file: &Path) -> u32 {
    fs::read_to_string(file).expect("a pid file").trim().parse().expect("a number")
}
