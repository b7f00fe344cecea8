//! No daemon, one that refuses, and something that is none.

use super::Place;
use super::fake::{Answer, Fake, json, problem};
use crate::kit::{orangery, ran};
use crate::refusals::short;
use crate::{Test, always};

/// Each command that asks a daemon.
const COMMANDS: [&[&str]; 17] = [
    &["ps"],
    &["inspect", "a"],
    &["logs", "a"],
    &["exec", "a", "true"],
    &["attach", "a"],
    &["wait", "a"],
    &["start", "a"],
    &["stop", "a"],
    &["kill", "a"],
    &["pause", "a"],
    &["resume", "a"],
    &["update", "--pids=3", "a"],
    &["stats", "a"],
    &["rm", "a"],
    &["down", "a"],
    &["run", "--detach", "true"],
    &["events"],
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("no_daemon_is_told_with_what_was_tried", no_daemon),
        always("something_that_is_no_daemon_is_told", no_http),
        always("a_daemons_refusal_is_told_as_our_own", refused),
        always("wrong_words_for_a_daemon_are_named", wrong_words),
        always("several_names_are_done_each_for_itself", several),
        always("what_is_asked_for_is_what_was_typed", asked),
        always("completions_know_every_command", completions),
    ]
}

fn no_daemon() {
    let place = Place::new();
    for command in COMMANDS {
        let ran = place.ran(command);
        let text = short(&ran);
        for part in [&*place.socket().display().to_string(), "there is no such socket", "--socket", "orangery serve"] {
            assert!(text.contains(part), "{command:?}: {part} is missing in\n{text}");
        }
    }
    // Somebody was there.
    Fake::start(&place.socket(), []).killed();
    let refused = place.ran(&["ps"]);
    assert!(short(&refused).contains("nobody listens"), "{refused:?}");
    // Said by the environment, and as JSON.
    let mut command = orangery(&["ps", "--json"]);
    let told = command.env("ORANGERY_SOCKET", "/no/such/socket").output().unwrap();
    let error: serde_json::Value = serde_json::from_slice(&told.stderr).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["option"]), (&"no_daemon".into(), &"ORANGERY_SOCKET".into()));
}

fn no_http() {
    let place = Place::new();
    for answer in [&b"hello\r\n\r\n"[..], b"\x01\x02\x03", b"HTTP/9.9 200 OK\r\n\r\n"] {
        let fake = Fake::start(&place.socket(), [Answer::Raw(answer.into())]);
        let ran = place.ran(&["ps"]);
        assert!(short(&ran).contains("no orangery daemon"), "{ran:?}");
        fake.end();
    }
    // Nothing at all, and answers that are no documents of ours.
    for (answer, said) in [
        (Answer::Raw(Vec::new()), "has gone away"),
        (json("200 OK", "{\"containers\":7}"), "is not understood"),
        (json("200 OK", "{"), "is not understood"),
        (json("500 Internal Server Error", "<html>"), "500"),
    ] {
        let fake = Fake::start(&place.socket(), [answer]);
        let ran = place.ran(&["ps"]);
        assert!(short(&ran).contains(said), "{ran:?}");
        fake.end();
    }
}

fn refused() {
    let place = Place::new();
    let more =
        r#","field":"memory","stage":"step 3: mount","errno":2,"hint":"64M","also":[{"field":"cpus","detail":"x"}]"#;
    let fake = Fake::start(
        &place.socket(),
        [
            problem("422 Unprocessable Content", "invalid", more),
            problem("422 Unprocessable Content", "command_not_found", ""),
            problem("422 Unprocessable Content", "command_not_executable", ""),
            problem("404 Not Found", "not_found", ""),
            problem("409 Conflict", "state", ""),
            problem("418 I'm a teapot", "of_tomorrow", ""),
        ],
    );
    let line = ["run", "--detach", "--memory=64M", "true"];
    let invalid = place.ran(&line);
    let text = &invalid.ended(125).err;
    for part in ["no, says the test", "in --memory (memory), at step 3: mount", "try: 64M", "also: cpus: x"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    place.ran(&line).ended(127);
    place.ran(&line).ended(126);
    assert!(place.ran(&["inspect", "a"]).ended(125).err.contains("orangery ps --all"));
    assert!(place.ran(&["rm", "a"]).ended(125).err.contains("--force"));
    place.ran(&["ps"]).ended(125);
    fake.end();
}

fn wrong_words() {
    for (args, part) in [
        (&["ps", "--state", "dead"][..], "dead"),
        (&["ps", "--label", "x"], "key=value"),
        (&["inspect"], "NAME"),
        (&["wait"], "NAME"),
        (&["wait", "--timeout", "soon", "a"], "soon"),
        (&["kill", "--signal", "NOPE", "a"], "NOPE"),
        (&["stop", "--stop", "TERM", "a"], "TERM"),
        (&["update", "a"], "--memory"),
        (&["update", "--memory", "64Q", "a"], "64Q"),
        (&["update", "--property", "x", "a"], "key=value"),
        (&["exec", "a"], "COMMAND"),
        (&["exec", "-it", "a", "true"], "not a TTY"),
        (&["exec", "--detach", "-i", "a", "true"], "--detach"),
        (&["exec", "--env", "NOT_SET_ANYWHERE", "a", "true"], "NOT_SET_ANYWHERE"),
        (&["attach", "--history", "some", "a"], "all"),
        (&["run", "--detach", "--report", "-", "true"], "--detach"),
        (&["run", "--detach", "--log", "x", "true"], "orangery logs NAME"),
        (&["run", "--detach", "--env", "NOT_SET_ANYWHERE", "true"], "NOT_SET_ANYWHERE"),
        (&["up", "--detach", "--check", "x"], "--detach"),
        (&["up", "--detach", "/no/such/file"], "No such file"),
        (&["completions", "tcsh"], "tcsh"),
    ] {
        let ran = ran(args);
        assert!(short(&ran).contains(part), "{args:?}: {part} is missing in\n{ran:?}");
    }
}

fn several() {
    let place = Place::new();
    let fake = Fake::start(&place.socket(), [json("204 No Content", ""), problem("404 Not Found", "not_found", "")]);
    let ran = place.ran(&["rm", "a", "b"]);
    assert_eq!((ran.ended(125).text().lines().count(), ran.err.contains("no, says the test")), (1, true), "{ran:?}");
    let mut asked: Vec<String> = fake.end().into_iter().map(|asked| asked.line).collect();
    asked.sort();
    assert_eq!(asked, ["DELETE /v1/containers/a", "DELETE /v1/containers/b"]);
}

fn asked() {
    let place = Place::new();
    let none = || json("200 OK", r#"{"containers":[]}"#);
    let fake = Fake::start(
        &place.socket(),
        [
            none(),
            none(),
            json("204 No Content", ""),
            json("204 No Content", ""),
            Answer::Raw(Vec::new()),
            problem("409 Conflict", "exists", ""),
        ],
    );
    place.ran(&["ps", "--label", "a=b c", "job-"]).ended(0);
    assert!(place.ran(&["ps", "--all", "--quiet"]).ended(0).out.is_empty());
    place.ran(&["kill", "--signal", "hup", "a/../b"]).ended(0);
    place.ran(&["pause", "--how", "stop", "x"]).ended(0);
    let line =
        ["run", "--detach", "--name", "n", "-i", "--memory=1M", "-e", "A=b", "--restart=always", "--", "sh", "-x"];
    assert!(place.ran(&line).ended(125).err.contains("no, says the test"));
    let asked = fake.end();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/containers?state=starting%2Crunning%2Cpaused%2Cstopping%2Cwaiting&name_prefix=job-&label=a%3Db%20c",
            "GET /v1/containers",
            "POST /v1/containers/a%2F..%2Fb/kill",
            "POST /v1/containers/x/pause",
            "POST /v1/containers",
            "POST /v1/containers",
        ]
    );
    assert_eq!(asked[2].json(), serde_json::json!({ "signal": "HUP" }));
    assert_eq!(asked[3].json(), serde_json::json!({ "how": "stop" }));
    // The connection broke before the answer: asked once more, with the same key, so that it is made once.
    let key = asked[4].header("idempotency-key").unwrap();
    assert!(key.len() >= 32 && asked[5].header("idempotency-key") == Some(key), "{asked:?}");
    let expected = serde_json::json!({
        "name": "n", "stdin": "keep", "start": true,
        "spec": { "command": ["sh", "-x"], "memory": "1M", "env": ["A=b"], "restart": "always" },
    });
    assert_eq!((asked[4].json(), asked[5].json()), (expected.clone(), expected));
}

fn completions() {
    let help = ran(&["--help"]);
    let commands = help.ended(0).text().lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = commands.map_while(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 20 && commands.contains(&"attach"), "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(&["completions", shell]);
        for command in &commands {
            assert!(script.ended(0).text().contains(command), "{shell} does not know {command}");
        }
    }
}
