//! The examples that are no servers: what they print.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use orangery_tests::{Scene, Trial, trial, wait};
use serde_json::{Value, json};

use crate::server::program;

pub(crate) fn trials() -> Vec<Trial> {
    // Where a sandbox finds it: it shows the host's /usr.
    let python = std::path::Path::new("/usr/bin/python3").exists();
    let without_python = (!python).then_some("there is no /usr/bin/python3");
    vec![
        trial!(every_verdict).long(),
        trial!(cells_of_python).skip_if(without_python),
        trial!(cells_that_run_away).long().skip_if(without_python),
        trial!(a_cell_that_wants_all_the_memory, Memory).skip_if(without_python),
        trial!(cells_of_shell),
    ]
}

fn every_verdict(_: &Scene) {
    let (status, said) = run("judge", &["--json"]);
    let judged: Vec<Value> = serde_json::from_str(&said).unwrap();
    let verdicts: BTreeMap<&str, &Value> =
        judged.iter().map(|one| (one["expected"].as_str().unwrap(), &one["verdict"])).collect();
    let all = ["AC", "WA", "CE", "RE", "SG", "TO", "CPU", "IDLE", "MLE", "OLE", "PIDS", "FSIZE", "DISK", "XX"];
    assert_eq!((verdicts.len(), judged.len()), (all.len(), all.len()));
    for expected in all {
        // Without a cgroup these two are not limited, and nothing is claimed.
        let may_lack = ["MLE", "PIDS"].contains(&expected) && verdicts[expected].is_null();
        assert!(may_lack || verdicts[expected] == expected, "{said}");
    }
    assert_eq!(verdicts["MLE"].is_null(), verdicts["PIDS"].is_null(), "{said}");
    assert!(status);
}

/// Whether it ended well, and what it printed.
#[expect(clippy::disallowed_methods, reason = "the example under test")]
fn run(example: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program(example));
    let output = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

/// An interpreter that is spoken to.
struct Session {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Session {
    #[expect(clippy::disallowed_methods, reason = "the example under test")]
    fn start(language: &str, seconds: &str) -> Self {
        let mut command = Command::new(program("code_interpreter"));
        command.args(["--json", language, seconds]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (requests, answers) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, requests, answers }
    }

    fn say(&mut self, line: &Value) -> Value {
        writeln!(self.requests, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?} to {line}"))
    }

    fn cell(&mut self, code: &str) -> Value {
        self.say(&code.into())
    }

    /// A cell that ends well; what it printed.
    fn ok(&mut self, code: &str) -> String {
        let cell = self.cell(code);
        assert_eq!(cell["end"], "ok", "{code}: {cell}");
        cell["stdout"].as_str().unwrap().to_owned()
    }

    /// The end of the cells is the end of the program, and of everything that is its.
    fn end(mut self) {
        drop(self.requests);
        let status = wait::child(&mut self.process, wait::PATIENCE).unwrap();
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
    }
}

/// Long enough for an ordinary cell on a busy machine.
const PATIENT: &str = "20";
/// For cells that use all of it.
const SHORT: &str = "3";

fn cells_of_python(_: &Scene) {
    let mut session = Session::start("python", PATIENT);
    session.ok("x = 6");
    assert_eq!(session.ok("print(x * 7)"), "42\n");
    let failed = session.cell("import sys\nprint('so far', file=sys.stderr)\n1 / 0");
    assert_eq!((&failed["end"], &failed["stdout"]), (&json!("failed"), &json!("")));
    let said = failed["stderr"].as_str().unwrap();
    assert!(said.starts_with("so far\n") && said.ends_with("ZeroDivisionError: division by zero\n"), "{said}");
    // What looks like the mark is output as any other.
    let mark = format!("\0{} ok\n", "0".repeat(32));
    assert_eq!(session.ok(&format!("print({mark:?}, end='')").replace("\\0", "\\x00")), mark);
    assert_eq!(session.ok("import os; os.close(0); print(os.system('echo from a child; cat'))"), "from a child\n256\n");
    assert_eq!(session.ok("print(x)"), "6\n");
    let exited = session.cell("print('bye', flush=True); os._exit(3)");
    assert_eq!((&exited["end"], &exited["stdout"]), (&json!({"exited": 3}), &json!("bye\n")));
    assert_eq!(session.ok("print('x' in globals())"), "False\n");
    session.ok("x = 1");
    session.say(&Value::Null);
    assert_eq!(session.ok("print('x' in globals())"), "False\n");
    session.end();
}

fn cells_that_run_away(_: &Scene) {
    let mut session = Session::start("python", SHORT);
    session.ok("x = 6");
    assert_eq!(session.cell("print('on it', flush=True)\nwhile True: pass")["end"], "interrupted");
    assert_eq!(session.ok("print(x)"), "6\n", "an interrupt costs no names");
    let flood = session.cell("while True: print('x' * 1000)");
    assert_eq!(flood["end"], "flood");
    assert_eq!(flood["stdout"].as_str().unwrap().len(), 64 << 10);
    assert!(flood["cut"].as_u64().unwrap() > 1 << 20, "{}", flood["cut"]);
    let deaf = "import time\nwhile True:\n  try: time.sleep(1000)\n  except KeyboardInterrupt: pass";
    assert_eq!(session.cell(deaf)["end"], "killed");
    assert_eq!(session.ok("print('x' in globals())"), "False\n");
    // Its child holds the output, and not us.
    let left = "import os, subprocess; subprocess.Popen(['sleep', '1000']); os._exit(4)";
    assert_eq!(session.cell(left)["end"], json!({"exited": 4}));
    session.ok("");
    session.end();
}

fn a_cell_that_wants_all_the_memory(_: &Scene) {
    let mut session = Session::start("python", PATIENT);
    session.ok("x = 6");
    assert_eq!(session.cell("y = b'x' * (300 << 20)")["end"], "out_of_memory");
    assert_eq!(session.ok("print('x' in globals())"), "False\n");
    session.end();
}

fn cells_of_shell(_: &Scene) {
    let mut session = Session::start("shell", PATIENT);
    session.ok("x=6; twice() { echo $(($1 * 2)); }");
    assert_eq!(session.ok("twice $x; echo \"it's\" >&2"), "12\n");
    assert_eq!(session.cell("false")["end"], "failed");
    assert_eq!(session.ok("cat; echo $x"), "6\n", "a cell reads nothing");
    assert_eq!(session.cell("exit 5")["end"], json!({"exited": 5}));
    assert_eq!(session.ok("echo ${x-gone}"), "gone\n");
    session.end();
}
