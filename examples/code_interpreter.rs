//! Long-lived sessions of an interpreter in a sandbox: cells of code go in, framed output comes out. Names stay from cell to cell;
//! a cell that runs away, wants all the memory, floods its output or ends the interpreter costs its session the names, and
//! nobody else anything: the next interpreter takes a sandbox that a pool has ready.
//!
//! `cargo run --release --example code_interpreter [-- --json [python|shell [SECONDS]]]`
//!
//! Without `--json` it shows what happens to cells of every kind. With it each line of the standard input is a cell, as a JSON
//! string (or `null`: reset), and each answer a line of JSON:
//!
//! ```text
//! $ printf '%s\n' '"x = 6"' '"print(x * 7)"' | code_interpreter --json
//! {"end":"ok","stdout":"","stderr":"","cut":0}
//! {"end":"ok","stdout":"42\n","stderr":"","cut":0}
//! ```

#[path = "code_interpreter/frame.rs"]
mod frame;
#[path = "code_interpreter/session.rs"]
mod session;

use std::io::Write as _;
use std::time::Duration;

use orangery::{Pool, Sandbox, Supervisor};
use session::{Cell, End, Language, Session};

/// What each cell has, unless told otherwise.
const TIME: Duration = Duration::from_secs(2);
const MEMORY: u64 = 128 << 20;

/// The cells of the show, and how each must end.
const SHOW: [(&str, End); 8] = [
    ("x = 6", End::Ok),
    ("import sys; print(x * 7); print('to stderr', file=sys.stderr)", End::Ok),
    ("1 / 0", End::Failed),
    ("while True: pass", End::Interrupted),
    ("print('x is still', x)", End::Ok),
    ("import os; os.close(0); os.system('echo from a child')", End::Ok),
    ("import time\nwhile True:\n  try: time.sleep(1000)\n  except KeyboardInterrupt: pass", End::Killed),
    ("print('x' in globals())", End::Ok),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let json = arguments.next().is_some_and(|option| option == "--json");
    let supervisor = Supervisor::new()?;
    let language = match arguments.next().as_deref() {
        Some("python") => Language::Python,
        Some("shell") => Language::Shell,
        _ if has_python(&supervisor).await => Language::Python,
        _ => Language::Shell,
    };
    let time = arguments.next().map_or(Ok(TIME), |seconds| seconds.parse().map(Duration::from_secs))?;
    let pool = Pool::builder(&sandbox(&supervisor)?).idle(2).most(8).build(&supervisor)?;
    let mut session = Session::start(&pool, language, time).await?;
    if json {
        serve(&mut session).await?;
    } else if language == Language::Python {
        show(&mut session).await?;
    } else {
        println!("there is no python3 here: {:?}", session.run("x=42; echo $x").await?);
    }
    drop(session);
    pool.close().await;
    supervisor.shutdown().await;
    Ok(())
}

/// In the sandbox, which shows the host's /usr.
async fn has_python(supervisor: &Supervisor) -> bool {
    let output = supervisor.command("python3").args(["-c", "pass"]).run().await;
    output.is_ok_and(|output| output.report.success())
}

fn sandbox(supervisor: &Supervisor) -> Result<Sandbox, orangery::Error> {
    let sandbox = Sandbox::builder().id("interpreter");
    // Without a cgroup (an ordinary user outside a delegated one) only each process's address space is limited.
    let limited = supervisor.native().is_some_and(|native| native.cgroup_mode().0 != "none");
    if limited { sandbox.memory(MEMORY).pids(64).build() } else { sandbox.build() }
}

async fn serve(session: &mut Session) -> anyhow::Result<()> {
    // Blocks this thread, which has nothing else to do; the session lives on others.
    for line in std::io::stdin().lines() {
        let line = line?;
        let cell = match serde_json::from_str::<Option<String>>(&line) {
            Ok(Some(code)) => session.run(&code).await?,
            Ok(None) => {
                session.reset().await?;
                Cell { end: End::Ok, stdout: String::new(), stderr: String::new(), cut: 0 }
            }
            Err(error) => anyhow::bail!("{line:?} is no cell: {error}"),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(&cell)?)?;
        out.flush()?;
    }
    Ok(())
}

async fn show(session: &mut Session) -> anyhow::Result<()> {
    for (code, expected) in SHOW {
        let cell = session.run(code).await?;
        println!("In:  {}\n{:?}: {:?} {:?}\n", code.replace('\n', "\n     "), cell.end, cell.stdout, cell.stderr);
        anyhow::ensure!(cell.end == expected, "{expected:?} was expected");
    }
    Ok(())
}
