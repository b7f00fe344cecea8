//! What can be done with containers, and that all that is wrong is said by its field.

use serde_json::{Value, json};

use crate::client::ask;
use crate::daemon::Daemon;
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_container_from_its_creation_to_its_end", whole),
        always("a_container_that_is_written_down_first", later),
        always("what_is_kept_running", kept),
        always("further_processes", further),
        always("what_is_wrong_is_named", refusals),
        always("a_key_makes_it_once", once),
        always("the_next_daemon_knows_the_key", once_across),
        always("a_group_from_its_creation_to_its_end", group),
        always("files_and_properties", files),
        always("a_client_that_leaves_does_not_undo_what_it_asked_for", leaves),
    ]
}

fn whole() {
    let daemon = Daemon::start();
    let made = daemon.make(
        "a",
        "echo hi; echo oops >&2; read x; exit 3",
        json!({ "stdin": "keep", "spec": { "label": { "t": "x" } } }),
    );
    assert_eq!(made.headers["location"], "/v1/containers/a");
    let made = made.json(201);
    assert_eq!((&made["state"], &made["labels"]["t"]), (&json!("running"), &json!("x")));
    daemon.sh("b", "exec sleep 1000").json(201);
    let listed = |query: &str| {
        let listed = daemon.get(&format!("/v1/containers?{query}")).json(200);
        listed["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(""), ["a", "b"]);
    assert_eq!(listed("label=t%3Dx"), ["a"]);
    assert_eq!(listed("state=exited,paused"), [""; 0]);
    assert_eq!(listed("name_prefix=b&state=running"), ["b"]);
    let waited = daemon.get("/v1/containers/a/wait?timeout=10ms").json(200);
    assert_eq!((&waited["done"], &waited["state"]), (&json!(false), &json!("running")));
    // It has said all that it says.
    let oops = daemon.get("/v1/containers/a/output?stream=stderr").piece().unwrap();
    assert_eq!(oops.as_deref(), Some(&b"oops\n"[..]));
    daemon.ask("POST", "/v1/containers/a/kill", r#"{"signal":"TERM"}"#).done();
    let exit = daemon.exit("a");
    assert_eq!((&exit["exit_code"], &exit["exit"]["signal"]["signal"]), (&json!(143), &json!(15)));
    assert_eq!(exit["report"]["schema"], 1);
    assert_eq!(daemon.get("/v1/containers/a/output?stream=stderr").body().unwrap(), b"oops\n");
    let stopped = daemon.ask("POST", "/v1/containers/b/stop", r#"{"signal":"KILL"}"#).json(200);
    assert_eq!((&stopped["state"], &stopped["exit"]["exit_code"]), (&json!("exited"), &json!(137)));
    for name in ["a", "b"] {
        daemon.ask("DELETE", &format!("/v1/containers/{name}"), "").done();
        assert_eq!(daemon.get(&format!("/v1/containers/{name}")).refusal().0, 404);
    }
    let left = std::fs::read_dir(daemon.state().join("serve/logs")).unwrap().count();
    assert_eq!(left, 0, "a log is left");
    daemon.end();
}

fn later() {
    let daemon = Daemon::start();
    let made = daemon.make("a", "echo life; exit 4", json!({ "start": false })).json(201);
    assert_eq!((&made["state"], &made["pid"]), (&json!("created"), &Value::Null));
    assert_eq!(daemon.get("/v1/containers/a/logs").refusal().1, "state");
    assert_eq!(daemon.ask("POST", "/v1/containers/a/pause", "").refusal().1, "state");
    for generation in 1..=3 {
        let started = daemon.ask("POST", "/v1/containers/a/start", "").json(200);
        assert_eq!(started["generation"], generation);
        let exit = daemon.exit("a");
        assert_eq!((&exit["exit_code"], &exit["report"]["generation"]), (&json!(4), &json!(generation)));
    }
    let written = daemon.get("/v1/containers/a/output").body().unwrap();
    assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 3, "one log of all");
    daemon.ask("DELETE", "/v1/containers/a", "").done();
    daemon.end();
}

fn kept() {
    let daemon = Daemon::start();
    let spec = json!({ "spec": { "restart": "always", "restart-delay": "10ms", "restart-max-delay": "10ms", "restart-window": "100000/1h" } });
    daemon.make("s", "echo life; exit 1", spec).json(201);
    // All its lives are one stream, and what is told of each comes behind its bytes.
    let (mut bytes, mut exits) = (0, 0);
    for event in daemon.get("/v1/containers/s/logs").events() {
        match event.name.as_str() {
            "" => {
                assert_eq!(event.data["offset"], bytes, "{event:?}");
                bytes += event.data["text"].as_str().unwrap().len();
            }
            "exit" => {
                assert_eq!((&event.data["exit_code"], bytes % 5), (&json!(1), 0));
                exits += 1;
            }
            other => panic!("{other}: {event:?}"),
        }
        if exits >= 1 && bytes >= 25 {
            break;
        }
    }
    let stopped = daemon.ask("POST", "/v1/containers/s/stop", "").json(200);
    assert_eq!((&stopped["state"], &stopped["service"]["state"]), (&json!("exited"), &json!("stopped")));
    assert!(stopped["service"]["restarts"].as_u64().unwrap() >= 4, "{stopped}");
    let last: Vec<_> = daemon.get("/v1/containers/s/logs?tail=1").events().map(|event| event.name).collect();
    assert_eq!(last.last().map(String::as_str), Some("end"), "{last:?}");
    daemon.ask("DELETE", "/v1/containers/s", "").done();
    daemon.end();
}

fn further() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let exec = json!({ "command": ["sh", "-c", "echo $A in $PWD; exit 7"], "env": { "A": 1 }, "workdir": "/tmp" });
    let made = daemon.ask("POST", "/v1/containers/a/processes", &exec.to_string()).json(201);
    assert_eq!(made["id"], 1);
    let waited = daemon.get("/v1/containers/a/processes/1/wait").json(200);
    assert_eq!((&waited["done"], &waited["exit"]["exit_code"]), (&json!(true), &json!(7)));
    assert_eq!(daemon.get("/v1/containers/a/processes/1/output").body().unwrap(), b"1 in /tmp\n");
    let all = daemon.get("/v1/containers/a/processes").json(200);
    assert_eq!(
        all["processes"].as_array().unwrap().iter().map(|it| it["id"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 1]
    );
    let refused = |body: Value| daemon.ask("POST", "/v1/containers/a/processes", &body.to_string()).refusal();
    assert_eq!(refused(json!({ "command": [] })), (422, "invalid".into(), "command".into()));
    assert_eq!(refused(json!({ "command": ["no-such-command"] })).1, "command_not_found");
    assert_eq!(refused(json!({ "command": ["true"], "timeout": "soon" })).2, "timeout");
    assert_eq!(daemon.get("/v1/containers/a/processes/9").refusal().0, 404);
    daemon.ask("POST", "/v1/containers/a/processes/0/kill", "").done();
    assert_eq!(daemon.exit("a")["exit_code"], 137);
    daemon.end();
}

fn refusals() {
    let daemon = Daemon::start();
    let made = |body: &str| daemon.ask("POST", "/v1/containers", body).refusal();
    let of = |status, kind: &str, field: &str| (status, kind.to_owned(), field.to_owned());
    assert_eq!(made("{"), of(400, "usage", ""));
    assert_eq!(made("{}"), of(422, "invalid", "spec"));
    assert_eq!(made(r#"{"spec":{"command":["true"]},"nmae":"a"}"#), of(422, "invalid", "nmae"));
    assert_eq!(made(r#"{"spec":{"command":["true"],"memory":"64Q"}}"#), of(422, "invalid", "memory"));
    assert_eq!(made(r#"{"spec":{"command":["true"],"memroy":1}}"#), of(422, "invalid", "memroy"));
    assert_eq!(made(r#"{"spec":{"command":["true"],"rootfs":"rel"}}"#), of(422, "invalid", "rootfs"));
    assert_eq!(made(r#"{"spec":{"command":["true"],"rootfs":"/no/such"}}"#), of(422, "invalid", "rootfs"));
    assert_eq!(made(r#"{"spec":{"command":["no-such-command"]}}"#).1, "command_not_found");
    assert_eq!(made(r#"{"name":"../x","spec":{"command":["true"]}}"#), of(422, "invalid", "name"));
    assert_eq!(made(r#"{"spec":{"command":["true"]},"files":[{"path":"/in/x"}]}"#), of(422, "invalid", "files[0]"));
    daemon.sh("a", "exec sleep 1000").json(201);
    assert_eq!(daemon.sh("a", "true").refusal(), of(409, "exists", "name"));
    assert_eq!(daemon.ask("DELETE", "/v1/containers/a", "").refusal(), of(409, "state", ""));
    assert_eq!(daemon.get("/v1/containers?label=x").refusal(), of(400, "usage", "label"));
    assert_eq!(daemon.get("/v1/containers?colour=x").refusal(), of(400, "usage", "colour"));
    assert_eq!(daemon.get("/v1/containers/a/logs?tail=x").refusal(), of(400, "usage", "tail"));
    assert_eq!(daemon.get("/v1/containers/a/logs?cursor=x").refusal(), of(400, "usage", "cursor"));
    assert_eq!(daemon.get("/v1/containers/a/attach").refusal(), of(400, "usage", ""));
    assert_eq!(daemon.ask("PATCH", "/v1/containers/a", r#"{"pids":"x"}"#).refusal(), of(422, "invalid", "pids"));
    assert_eq!(
        daemon.ask("POST", "/v1/containers/a/kill", r#"{"signal":"TREM"}"#).refusal(),
        of(422, "invalid", "signal")
    );
    assert_eq!(daemon.ask("POST", "/v1/containers/a/resize", r#"{"rows":9,"columns":1}"#).refusal().0, 409);
    assert_eq!(daemon.get("/v2/containers").refusal(), of(404, "not_found", ""));
    assert_eq!(daemon.ask("PUT", "/v1/containers", "").refusal(), of(405, "method", ""));
    assert_eq!(daemon.get("/v1/containers/b/stats").refusal(), of(404, "not_found", ""));
    daemon.ask("DELETE", "/v1/containers/a?force=true", "").done();
    daemon.end();
}

fn once() {
    let daemon = Daemon::start();
    let make = |key: &str, script: &str| {
        let body = json!({ "spec": { "command": ["sh", "-c", script] } }).to_string();
        ask(daemon.connect(), "POST", "/v1/containers", &[("Idempotency-Key", key)], &body)
    };
    // Two at one time.
    let (one, other) = std::thread::scope(|scope| {
        let two = [(); 2].map(|()| scope.spawn(|| make("k", "sleep 1000").json(201)["name"].clone()));
        let [one, other] = two.map(|thread| thread.join().unwrap());
        (one, other)
    });
    assert_eq!(one, other);
    assert_eq!(make("k", "sleep 1000").json(201)["name"], one);
    assert_eq!(make("k", "true").refusal(), (422, "idempotency".into(), String::new()));
    assert_ne!(make("l", "sleep 1000").json(201)["name"], one);
    assert_eq!(daemon.get("/v1/containers").json(200)["containers"].as_array().unwrap().len(), 2);
    daemon.end();
}

fn once_across() {
    let make = |daemon: &Daemon, name: &str, script: &str| {
        let body = json!({ "name": name, "spec": { "command": ["sh", "-c", script] } }).to_string();
        ask(daemon.connect(), "POST", "/v1/containers", &[("Idempotency-Key", "k")], &body)
    };
    let daemon = Daemon::start();
    let made = make(&daemon, "a", "sleep 1000").json(201);
    let daemon = daemon.again();
    let again = make(&daemon, "a", "sleep 1000").json(201);
    assert_eq!((&again["name"], &again["pid"]), (&json!("a"), &made["pid"]));
    for (name, script) in [("a", "true"), ("b", "sleep 1000")] {
        assert_eq!(make(&daemon, name, script).refusal(), (422, "idempotency".into(), String::new()));
    }
    daemon.end();
}

fn group() {
    let daemon = Daemon::start();
    let service = |after: Value| json!({ "command": ["sh", "-c", "echo up; exec sleep 1000"], "ready-line": "up", "after": after });
    let file = json!({ "service": { "db": service(json!([])), "api": service(json!(["db"])) } });
    let made = daemon.ask("POST", "/v1/groups", &json!({ "name": "shop", "file": file }).to_string()).json(201);
    let names: Vec<_> = made["members"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, [json!("shop.api"), json!("shop.db")]);
    assert_eq!(daemon.get("/v1/containers/shop.api/wait?for=ready").json(200)["done"], true);
    assert_eq!(daemon.get("/v1/containers/shop.db/output?follow=false").body().unwrap(), b"up\n");
    assert_eq!(daemon.ask("DELETE", "/v1/containers/shop.db?force=true", "").refusal().1, "state");
    assert_eq!(daemon.ask("DELETE", "/v1/groups/shop", "").refusal().1, "state");
    let refused =
        |file: Value| daemon.ask("POST", "/v1/groups", &json!({ "name": "x", "file": file }).to_string()).refusal();
    assert_eq!(refused(json!({ "service": { "a": { "command": ["true"], "memroy": 1 } } })).2, "service.a.memroy");
    assert_eq!(refused(json!({ "service": { "a": { "command": ["true"], "rootfs": "x" } } })).2, "service.a.rootfs");
    let pids = |daemon: &Daemon| {
        ["api", "db"].map(|name| daemon.get(&format!("/v1/containers/shop.{name}")).json(200)["pid"].clone())
    };
    let before = pids(&daemon);
    // The next daemon has it as the same group.
    let daemon = daemon.again();
    assert_eq!((pids(&daemon), daemon.get("/v1/groups/shop").json(200)["state"].clone()), (before, json!("running")));
    assert_eq!(daemon.ask("DELETE", "/v1/containers/shop.db?force=true", "").refusal().1, "state");
    assert_eq!(daemon.ask("POST", "/v1/groups/shop/stop", "").json(200)["state"], "stopped");
    let daemon = daemon.again();
    let now = daemon.get("/v1/groups").json(200)["groups"].clone();
    assert_eq!((&now[0]["state"], &now[0]["members"][1]["state"]), (&json!("stopped"), &json!("stopped")));
    daemon.ask("DELETE", "/v1/groups/shop", "").done();
    assert_eq!(daemon.get("/v1/containers").json(200)["containers"], json!([]));
    let daemon = daemon.again();
    assert_eq!(daemon.get("/v1/groups").json(200)["groups"], json!([]));
    daemon.end();
}

fn files() {
    let daemon = Daemon::start();
    let files = json!({ "files": [{ "path": "/in/a", "text": "one" }, { "path": "/in/b", "base64": "AP8=" }] });
    daemon.make("a", "cat /in/a /in/b; exec sleep 1000", files).json(201);
    let mut output = daemon.get("/v1/containers/a/output");
    let mut got = Vec::new();
    while got.len() < 5 {
        got.extend(output.piece().unwrap().unwrap());
    }
    assert_eq!(got, b"one\0\xff");
    let updated = daemon.ask("PATCH", "/v1/containers/a", r#"{"timeout":"1h","properties":{"k":"v"}}"#).json(200);
    assert_eq!((&updated["properties"]["k"], &updated["watched"]["wall_ms"]), (&json!("v"), &json!(3_600_000)));
    let updated = daemon.ask("PATCH", "/v1/containers/a", r#"{"properties":{"k":null}}"#).json(200);
    assert_eq!(updated["properties"], json!({}));
    assert!(daemon.get("/v1/containers/a/stats").json(200).is_object());
    let stats: Vec<_> =
        daemon.get("/v1/containers/a/stats?every=1ms").events().take(2).map(|event| event.name).collect();
    assert_eq!(stats, ["stats", "stats"]);
    assert_eq!(daemon.get("/v1/health").json(200)["containers"], 1);
    let metrics = String::from_utf8(daemon.get("/v1/metrics").body().unwrap()).unwrap();
    assert!(metrics.contains("orangery_containers{state=\"running\"} 1"), "{metrics}");
    assert_eq!(daemon.get("/v1/openapi.json").json(200)["openapi"], "3.1.0");
    daemon.ask("DELETE", "/v1/containers/a?force=true", "").done();
    daemon.end();
}

fn leaves() {
    use std::io::Write as _;
    let daemon = Daemon::start();
    let kinds = "container_created,container_started,container_failed";
    let mut events = daemon.get(&format!("/v1/events?kind={kinds}")).events();
    let body = json!({ "name": "a", "spec": { "command": ["sleep", "1000"] } }).to_string();
    let mut client = daemon.connect();
    write!(client, "POST /v1/containers HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    assert_eq!(events.next().unwrap().name, "container_created");
    drop(client);
    assert_eq!(events.next().unwrap().name, "container_started");
    // The last of it is still under way.
    let until = std::time::Instant::now() + crate::daemon::PATIENCE;
    while daemon.get("/v1/containers/a").json(200)["state"] != "running" {
        assert!(std::time::Instant::now() < until, "it does not run");
    }
    daemon.end();
}
