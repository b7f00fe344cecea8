//! What a program says when it fails, as an error of ours.

use serde_json::Value;

use crate::error::{Error, ErrorKind};

/// So much of its words is passed on.
const MOST: usize = 2048;

/// What crun says last where a child of its own has failed, who may have said why.
const OF_A_CHILD: &str = "fail startup";

/// The last error of its log (`--log-format json`), else what it wrote otherwise.
pub(crate) fn said(log: &str, otherwise: &str) -> String {
    let worst = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let level = line.get("level").and_then(Value::as_str).unwrap_or("error");
        let text = line.get("msg").and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())?;
        matches!(level, "error" | "fatal" | "panic").then(|| text.to_owned())
    };
    let logged: Vec<String> = log.lines().filter_map(worst).collect();
    let mut text = match logged.as_slice() {
        [.., why, last] if last == OF_A_CHILD => format!("{why}; {last}"),
        [.., last] => last.clone(),
        [] => otherwise.trim().to_owned(),
    };
    if text.len() > MOST {
        let cut = (0..=MOST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}

/// A child of the program has failed without a word before there was a process: nothing of what was asked for has run.
pub(crate) fn has_not_begun(error: &Error) -> bool {
    error.what() == OF_A_CHILD
}

/// Why `step` (such as `runc create`) failed. `runs`: it was to execute this command.
pub(crate) fn failed(step: &str, how: &str, words: &str, runs: Option<&str>) -> Error {
    let lower = words.to_ascii_lowercase();
    let has = |text: &str| lower.contains(text);
    // crun does not say which one it could not open.
    let about = runs.is_some_and(|program| words.contains(program) || has("open executable"));
    let of_command = about && (has("exec") || has("executable") || has("command"));
    let kind = if of_command && (has("not found") || has("no such file") || has("not a directory")) {
        ErrorKind::CommandNotFound
    } else if of_command && (has("permission denied") || has("exec format") || has("is a directory")) {
        ErrorKind::CommandNotExecutable
    } else if has("does not exist")
        || has("is not running")
        || has("cannot exec in a stopped")
        || has("stopped container")
    {
        ErrorKind::State
    } else {
        ErrorKind::Creation
    };
    let what = if words.is_empty() { format!("it {how} and said nothing") } else { words.to_owned() };
    let error = Error::new(kind, what).with_stage(step);
    match kind {
        ErrorKind::CommandNotFound | ErrorKind::CommandNotExecutable => error.with_field("argv[0]"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_the_log_counts() {
        let log = concat!(
            r#"{"level":"warning","msg":"w","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"first","time":"t"}"#,
            "\n",
            r#"{"level":"error","msg":"second ","time":"t"}"#,
            "\nno json\n"
        );
        assert_eq!(said(log, "x"), "second");
        assert_eq!(said("", " what it wrote\n"), "what it wrote");
        let log = "{\"msg\":\"setns(pid=1)\",\"level\":\"error\"}\n{\"msg\":\"fail startup\",\"level\":\"error\"}\n";
        assert_eq!(said(log, "x"), "setns(pid=1); fail startup");
        let begun = |log: &str| has_not_begun(&failed("crun exec", "failed", &said(log, "x"), None));
        assert!(!begun(log) && begun("{\"msg\":\"fail startup\",\"level\":\"error\"}\n"));
        assert_eq!(said("", &"é".repeat(MOST)).len(), MOST);
    }

    #[test]
    fn commands_are_told_apart_from_everything_else() {
        let kind = |words: &str| failed("x create", "failed", words, Some("nope")).kind();
        let runc = r#"runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH"#;
        assert_eq!(kind(runc), ErrorKind::CommandNotFound);
        let crun = "executable file `nope` not found in $PATH: No such file or directory";
        assert_eq!(kind(crun), ErrorKind::CommandNotFound);
        let denied = r#"unable to start container process: exec: "/tmp/nope": permission denied"#;
        assert_eq!(kind(denied), ErrorKind::CommandNotExecutable);
        assert_eq!(kind("rootfs: no such file or directory"), ErrorKind::Creation);
        assert_eq!(kind("container does not exist"), ErrorKind::State);
        let silent = failed("x create", "ended with code 1", "", None);
        assert_eq!((silent.what(), silent.stage()), ("it ended with code 1 and said nothing", Some("x create")));
    }
}
