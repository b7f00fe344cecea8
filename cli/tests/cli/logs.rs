//! `run --log` and `logs`: what was written is kept, shown, found again, and followed.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use crate::kit::{orangery, ran, sh};
use crate::tty::AtTerminal;
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_log_keeps_what_it_shows", kept),
        always("a_log_is_found_by_tail_time_offset_and_stream", found),
        always("a_log_comes_as_json_and_cri", formats),
        always("a_log_is_followed_while_it_is_written", followed),
        always("a_terminal_is_shown_and_kept", terminal),
        always("one_log_is_kept_of_all_lives_and_followed_through_them", lives),
        always("an_output_limit_cuts_what_is_kept", limited),
        always("a_log_rotates_and_says_what_is_missing", rotated),
        always("a_log_that_is_compressed_reads_as_before", compressed),
        always("a_log_that_is_not_there_is_our_failure", missing),
        always("wrong_input_about_logs_is_told_by_its_option", wrong),
        always("a_log_that_is_moved_away_ends_its_follower", moved),
    ]
}

fn log(dir: &Path, options: &[&str], script: &str) -> crate::kit::Ran {
    sh(&[&["--log", dir.to_str().unwrap()], options].concat(), script)
}

fn logs(dir: &Path, options: &[&str]) -> crate::kit::Ran {
    ran(&[&["logs", dir.to_str().unwrap()], options].concat())
}

fn kept() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let run = log(&dir, &[], "echo out; echo err >&2; exit 3");
    assert_eq!((run.ended(3).text(), &run.err[..]), ("out\n", "err\n"));
    // A second run goes on with it, and shows its own output alone.
    assert_eq!(log(&dir, &[], "echo more").ended(0).text(), "more\n");
    let shown = logs(&dir, &[]);
    assert_eq!((shown.ended(0).text(), &shown.err[..]), ("out\nmore\n", "err\n"));
}

fn found() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), &[], "echo one; echo two; echo three; echo err >&2").ended(0);
    let shown = |options: &[&str]| logs(dir.path(), options).ended(0).text().to_owned();
    assert_eq!(shown(&["--tail", "2"]), "two\nthree\n");
    assert_eq!(shown(&["--from", "4"]), "two\nthree\n");
    assert_eq!(shown(&["--since", "1h"]), "one\ntwo\nthree\n");
    assert_eq!(shown(&["--stream", "stderr", "--format", "lines"]), "err\n");
    let timed = shown(&["--timestamps", "--tail", "1", "--stream", "stdout"]);
    let (time, text) = timed.split_once(' ').unwrap();
    assert_eq!((time.len(), text), (30, "three\n"));
}

fn formats() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), &[], r"echo text; printf 'half'; printf '\377' >&2").ended(0);
    let cri = logs(dir.path(), &["--format", "cri", "--stream", "stdout"]);
    let tags: Vec<_> = cri.ended(0).text().lines().map(|line| &line[31..]).collect();
    assert_eq!(tags, ["stdout F text", "stdout P half"]);
    let json = logs(dir.path(), &["--format", "json"]);
    let events: Vec<serde_json::Value> =
        json.ended(0).text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |stream: &str| events.iter().find(|event| event["stream"] == stream).unwrap();
    assert_eq!((&of("stdout")["text"], &of("stderr")["base64"]), (&"text".into(), &"/w==".into()));
    let end = &events.last().unwrap()["end"];
    assert_eq!((&end["stdout"], &end["stderr"]), (&9.into(), &1.into()));
    assert_eq!(end["exit"], serde_json::json!({"code": 0}));
}

fn followed() {
    let dir = tempfile::tempdir().unwrap();
    // The command waits until its first line was seen by a reader of the log, in another process.
    let mut run = orangery(&["run", "-i", "--log", dir.path().to_str().unwrap(), "--", "sh", "-c"])
        .arg("echo first; read go; echo second")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(run.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let mut follow = orangery(&["logs", dir.path().to_str().unwrap(), "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    drop(run.stdin.take());
    assert_eq!(lines.next().unwrap().unwrap(), "second");
    // The end of the log is the end of following it.
    assert!(lines.next().is_none());
    assert!(follow.wait().unwrap().success());
    run.wait().unwrap();
}

fn rotated() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--log-max-size", "4K", "--log-max-files", "2"];
    log(dir.path(), &options, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done").ended(0);
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.filter(|name| name.ends_with(".log")).count(), 2);
    let shown = logs(dir.path(), &[]);
    assert!(shown.ended(0).text().ends_with("line 2999\n"));
    assert!(shown.err.contains("bytes of stdout are missing from 0 on (removed)"), "{}", shown.err);
    assert!(logs(dir.path(), &["--tail", "1"]).err.is_empty());
}

fn compressed() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--log-max-size", "4K", "--log-max-files", "100", "--log-compress"];
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done";
    let shown = log(dir.path(), &options, script);
    // Done when the command line is: what was left of it is done by the next one.
    log(dir.path(), &options, "true").ended(0);
    let files =
        || std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(files().filter(|name| name.ends_with(".zst")).count() > 5, "{:?}", files().collect::<Vec<_>>());
    assert_eq!(logs(dir.path(), &[]).ended(0).text(), shown.ended(0).text());
    assert_eq!(logs(dir.path(), &["--tail", "2000"]).ended(0).text().lines().next(), Some("line 1000"));
    let wrong = log(dir.path(), &["--log-compress=99"], "true");
    assert!(wrong.code == Some(125) && wrong.err.contains("from -7 to 22"), "{wrong:?}");
}

fn missing() {
    let dir = tempfile::tempdir().unwrap();
    let shown = logs(dir.path(), &[]);
    assert_eq!(shown.code, Some(125));
    assert!(shown.err.contains("there is no log"), "{}", shown.err);
    let run = log(Path::new("/dev/null/log"), &[], "true");
    assert!(run.code == Some(125) && run.err.contains("--log"), "{run:?}");
}

fn wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    log(dir.path(), &[], "echo text").ended(0);
    for (options, words) in [
        (&["--tail", "-1"][..], &["\"-1\" is not a whole number", "--tail"][..]),
        (&["--tail", "1.5"], &["not a whole number"]),
        (&["--since", "-5m"], &["\"-5m\" is not a duration", "--since"]),
        (&["--from", "1K"], &["\"1K\" is not a whole number", "--from"]),
        (&["--from", "99999999999999999999"], &["not a whole number"]),
        (&["--stream", "both"], &["both", "--stream"]),
        (&["--format", "xml"], &["xml", "--format"]),
        (&["--tail", "1", "--from", "0"], &["--tail", "--from"]),
        (&["more"], &["more"]),
    ] {
        let shown = logs(dir.path(), options);
        assert_eq!((shown.code, shown.text()), (Some(125), ""), "{options:?}");
        assert!(words.iter().all(|word| shown.err.contains(word)), "{options:?}: {}", shown.err);
    }
    for (options, words) in [
        (&["--log-max-size", "0"][..], &["needs room", "--log-max-size"][..]),
        (&["--log-max-size", "-1M"], &["\"-1M\" is not a size"]),
        (&["--log-max-files", "0"], &["from 1 on", "--log-max-files"]),
    ] {
        let run = log(dir.path(), options, "true");
        assert_eq!(run.code, Some(125));
        assert!(words.iter().all(|word| run.err.contains(word)), "{options:?}: {}", run.err);
    }
    let without = sh(&["--log-max-files", "3"], "true");
    assert!(without.code == Some(125) && without.err.contains("--log <DIR> is missing"), "{without:?}");
    // Beyond the end there is nothing yet, which is no error; and all of it as one kind of document.
    assert_eq!(logs(dir.path(), &["--from", "999"]).ended(0).text(), "");
    let json = ran(&["logs", path, "--json"]);
    assert!(json.ended(0).text().lines().all(|line| line.starts_with('{')), "{json:?}");
    std::fs::write(dir.path().join("log.state"), "damaged").unwrap();
    let damaged = logs(dir.path(), &[]);
    assert_eq!(damaged.err.lines().next().unwrap().matches("damaged").count(), 1, "{}", damaged.err);
}

fn moved() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("log");
    let mut run = orangery(&["run", "-i", "--log", dir.to_str().unwrap(), "--", "sh", "-c"])
        .arg("echo first; read go")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut follow = loop {
        let mut follow = orangery(&["logs", dir.to_str().unwrap(), "-f"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The log may not be there yet.
        match BufReader::new(follow.stdout.take().unwrap()).lines().next() {
            Some(line) => {
                assert_eq!(line.unwrap(), "first");
                break follow;
            }
            None => drop(follow.wait().unwrap()),
        }
    };
    std::fs::rename(&dir, parent.path().join("elsewhere")).unwrap();
    let mut why = String::new();
    std::io::Read::read_to_string(&mut follow.stderr.take().unwrap(), &mut why).unwrap();
    assert_eq!(follow.wait().unwrap().code(), Some(125));
    assert!(why.contains("there is no log"), "{why}");
    drop(run.stdin.take());
    run.wait().unwrap();
}

fn terminal() {
    let dir = tempfile::tempdir().unwrap();
    let mut at =
        AtTerminal::sh(&["--log", dir.path().to_str().unwrap()], "stty -echo; echo ready; read w; echo got $w; exit 4");
    at.until("ready\r\n");
    at.type_in("it\r");
    assert_eq!(at.until("got it\r\n"), "got it\r\n");
    assert_eq!(at.end(), (Some(4), String::new()));
    assert_eq!(logs(dir.path(), &[]).ended(0).text(), "ready\r\ngot it\r\n");
    let twice = ran(&["run", "-t", "--restart", "always", "--", "true"]);
    assert!(twice.code == Some(125) && twice.err.contains("a terminal of its own"), "{twice:?}");
}

fn lives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    log(&path, &[], "echo before").ended(0);
    // Each life is one line of its input, and the last one ends by itself.
    let words = ["run", "-i", "--log", path.to_str().unwrap(), "--restart", "on-failure", "--restart-delay", "1ms"];
    let script = ["--", "sh", "-c", "read -r l || exit 0; echo $l; exit 1"];
    let mut run =
        orangery(&[&words[..], &script].concat()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = run.stdin.take().unwrap();
    let mut shown = BufReader::new(run.stdout.take().unwrap()).lines();
    writeln!(input, "one").unwrap();
    assert_eq!(shown.next().unwrap().unwrap(), "one");
    let mut follow = orangery(&["logs", path.to_str().unwrap(), "-F"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut followed = BufReader::new(follow.stdout.take().unwrap()).lines();
    for line in ["before", "one"] {
        assert_eq!(followed.next().unwrap().unwrap(), line);
    }
    for line in ["two", "three"] {
        writeln!(input, "{line}").unwrap();
        assert_eq!((shown.next().unwrap().unwrap(), followed.next().unwrap().unwrap()), (line.into(), line.into()));
    }
    drop(input);
    assert!(shown.next().is_none() && run.wait().unwrap().success());
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert_eq!(logs(&path, &["--from", "7"]).ended(0).text(), "one\ntwo\nthree\n");
    let both = log(&path, &["--restart", "always", "--output-limit", "1M"], "true");
    assert!(both.code == Some(125) && both.err.contains("--output-limit"), "{both:?}");
}

fn limited() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report.json");
    let path = dir.path().join("log");
    let report = || serde_json::from_slice::<serde_json::Value>(&std::fs::read(&file).unwrap()).unwrap();
    let run =
        |limit: &str, script: &str| log(&path, &["--output-limit", limit, "--report", file.to_str().unwrap()], script);
    assert_eq!(run("10:truncate", "echo 12345678; seq 100000; exit 4").ended(4).text(), "12345678\n1");
    let truncated = report();
    assert_eq!((&truncated["cause"], &truncated["output_limit"]), (&"own".into(), &10.into()));
    assert_eq!(truncated["stdout"]["suppressed"], 588_895 - 1);
    let kept = logs(&path, &[]);
    assert_eq!(kept.ended(0).text(), "12345678\n1");
    assert!(kept.err.contains("588894 bytes of stdout are missing from 10 on (output-limit)"), "{}", kept.err);
    assert_eq!(run("64K", "yes").ended(137).out.len(), 64 << 10);
    assert_eq!(report()["cause"]["limit"], "output");
}
