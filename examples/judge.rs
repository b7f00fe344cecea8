//! Judge submissions: one program for each verdict there is. The limits that ended it, and the kernel's evidence for that, are in
//! the report; what the judge adds is the answer.
//!
//! `cargo run --release --example judge [-- --json]`

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, join3};
use orangery::{
    Cause, CopyOptions, Disk, Error, ExitStatus, LimitKind, Report, Resource, Rlimit, Sandbox, SandboxBuilder, Stdin,
    Supervisor,
};
use serde::Serialize;

/// What a submission is told. The first two are the judge's, all others come from the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::upper_case_acronyms, reason = "as judges print them")]
enum Verdict {
    /// The answer is right.
    AC,
    /// The answer is wrong.
    WA,
    /// It could not be compiled.
    CE,
    /// Runtime error: an exit code of its own.
    RE,
    /// A signal of its own doing ended it.
    SG,
    /// It took too long.
    TO,
    /// It used too much processor time.
    CPU,
    /// It said nothing for too long.
    IDLE,
    /// It wanted too much memory.
    MLE,
    /// It wrote too much.
    OLE,
    /// It started too many processes.
    PIDS,
    /// It wrote too large a file.
    FSIZE,
    /// It filled its disk.
    DISK,
    /// We have failed, not the submission.
    XX,
}

/// A submission, and what it must be told.
struct Submission {
    name: &'static str,
    source: &'static str,
    expected: Verdict,
    /// What is tighter for it than for the others, so that it meets this limit and no other.
    tighten: fn(SandboxBuilder) -> SandboxBuilder,
    language: &'static str,
}

const fn submission(name: &'static str, expected: Verdict, source: &'static str) -> Submission {
    Submission { name, source, expected, tighten: |sandbox| sandbox, language: "sh" }
}

const fn tight(of: Submission, tighten: fn(SandboxBuilder) -> SandboxBuilder) -> Submission {
    Submission { tighten, ..of }
}

const DISK: u64 = 1 << 20;
const QUESTION: &[u8] = b"20 22\n";
const ANSWER: &[u8] = b"42\n";

fn submissions() -> Vec<Submission> {
    use Verdict::{AC, CE, CPU, DISK, FSIZE, IDLE, MLE, OLE, PIDS, RE, SG, TO, WA, XX};
    let hungry = submission("hungry", MLE, "exec tail /dev/zero");
    let bomb = "n=0; while [ $n -lt 100 ]; do sleep 1000 & n=$((n + 1)); done; exit 1";
    let ours = Submission { language: "no-such-interpreter", ..submission("ours", XX, "") };
    vec![
        submission("right", AC, "read a b; echo $((a + b))"),
        submission("wrong", WA, "read a b; echo $((a - b))"),
        submission("unfinished", CE, "if true; then"),
        submission("gives up", RE, "exit 7"),
        submission("crash", SG, "kill -SEGV $$"),
        tight(submission("endless", TO, "while :; do sleep 0.05; echo; done"), |sandbox| sandbox.wall(SECOND)),
        tight(submission("busy", CPU, "while :; do :; done"), |sandbox| sandbox.cpu_time(SECOND)),
        tight(submission("asleep", IDLE, "sleep 1000"), |sandbox| sandbox.idle(SECOND)),
        tight(hungry, |sandbox| sandbox.memory(32 << 20)),
        submission("chatty", OLE, "yes 42"),
        tight(submission("bomb", PIDS, bomb), |sandbox| sandbox.pids(16)),
        submission("large file", FSIZE, "exec dd if=/dev/zero of=/dev/shm/large bs=65536"),
        submission("full disk", DISK, "exec dd if=/dev/zero of=/work/all bs=4096"),
        ours,
    ]
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// How one submission did.
#[derive(Serialize)]
struct Judged {
    name: &'static str,
    /// `None`: this machine has no such limit for us.
    verdict: Option<Verdict>,
    expected: Verdict,
    wall_ms: u128,
    /// In words.
    why: String,
}

/// What came of one that ran.
struct Ran {
    answer: Vec<u8>,
    report: Arc<Report>,
    /// Bytes that it left on its disk.
    disk: u64,
}

/// Why it did not run.
enum Stopped {
    Compiler(String),
    Us(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Us(error)
    }
}

/// What a sandbox of this judge is. Everything is limited; each submission meets the limit that is made tight for it.
fn sandbox(of: &Submission) -> Result<Sandbox, Error> {
    let sandbox = Sandbox::builder().file("/in/main.sh", of.source).tmpfs("/work", DISK).keep_files(true);
    let sandbox = sandbox.wall(MINUTE).cpu_time(MINUTE).output(1 << 20).disk(Disk { bytes: 8 << 20, inodes: 1024 });
    (of.tighten)(sandbox).build()
}

/// Compile it and run it.
async fn run(supervisor: &Supervisor, of: &Submission, scratch: &Path) -> Result<Ran, Stopped> {
    let sandbox = sandbox(of)?;
    // A compiler works on what a stranger has written, so it gets the same sandbox.
    let compiler = supervisor.command("sh").args(["-n", "/in/main.sh"]).sandbox(&sandbox).run().await?;
    if !compiler.report.success() {
        return Err(Stopped::Compiler(String::from_utf8_lossy(&compiler.stderr.to_vec()).trim_end().to_owned()));
    }
    let file_size = Rlimit { resource: Resource::Fsize, soft: 2 << 20, hard: 2 << 20 };
    let command = supervisor.command(of.language).arg("/in/main.sh").sandbox(&sandbox).rlimit(file_size);
    let (container, stdout, stderr) = command.stdin(Stdin::Bytes(QUESTION.into())).spawn_with_output().await?;
    let (stdout, _, report) = join3(stdout.collect(1 << 16), stderr.collect(1 << 16), container.wait()).await;
    let left = container.copy_out("/work", scratch.join(of.name), CopyOptions::default()).await?;
    container.delete().await?;
    Ok(Ran { answer: stdout.to_vec(), report: report?, disk: left.bytes })
}

/// The report has the reason why we ended it. Of what only makes a program fail (a fork or a write that was refused) it has
/// the evidence, which counts for one that did fail.
fn verdict(ran: &Ran) -> Verdict {
    let refused_forks = ran.report.cgroup.pids_refused.known().copied().unwrap_or(0);
    match (&ran.report.cause, ran.report.exit) {
        (Cause::Limit(LimitKind::Wall), _) => Verdict::TO,
        (Cause::Limit(LimitKind::Cpu), _) => Verdict::CPU,
        (Cause::Limit(LimitKind::Idle), _) => Verdict::IDLE,
        (Cause::Limit(LimitKind::Memory), _) => Verdict::MLE,
        (Cause::Limit(LimitKind::Output), _) => Verdict::OLE,
        (Cause::Limit(LimitKind::FileSize), _) => Verdict::FSIZE,
        (Cause::Limit(LimitKind::Seccomp) | Cause::Own, ExitStatus::Signal { .. }) => Verdict::SG,
        (Cause::Own, ExitStatus::Code(0)) if ran.answer == ANSWER => Verdict::AC,
        (Cause::Own, ExitStatus::Code(0)) => Verdict::WA,
        (Cause::Own, ExitStatus::Code(_)) if refused_forks > 0 => Verdict::PIDS,
        // A page or two may be somebody else's.
        (Cause::Own, ExitStatus::Code(_)) if ran.disk + (16 << 10) > DISK => Verdict::DISK,
        (Cause::Own, ExitStatus::Code(_)) => Verdict::RE,
        // We ended it, or lost it: nobody can say anything about the submission.
        _ => Verdict::XX,
    }
}

async fn judge(supervisor: &Supervisor, of: &Submission, scratch: &Path) -> Judged {
    let (verdict, wall, why) = match run(supervisor, of, scratch).await {
        Ok(ran) => {
            let why = format!("{:?}, {:?}", ran.report.exit, ran.report.cause);
            (Some(verdict(&ran)), ran.report.wall().unwrap_or_default(), why)
        }
        Err(Stopped::Compiler(said)) => (Some(Verdict::CE), Duration::ZERO, said),
        // Nothing is shown, and nothing is claimed.
        Err(Stopped::Us(error)) if error.field().is_some_and(|field| field.starts_with("limits.")) => {
            (None, Duration::ZERO, error.to_string())
        }
        Err(Stopped::Us(error)) => (Some(Verdict::XX), Duration::ZERO, error.to_string()),
    };
    Judged { name: of.name, verdict, expected: of.expected, wall_ms: wall.as_millis(), why }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let json = std::env::args().nth(1).is_some_and(|option| option == "--json");
    let (supervisor, scratch) = (Supervisor::new()?, tempfile::tempdir()?);
    let submissions = submissions();
    let judged = join_all(submissions.iter().map(|of| judge(&supervisor, of, scratch.path()))).await;
    supervisor.shutdown().await;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&judged)?)?;
    } else {
        for Judged { name, verdict, wall_ms, why, .. } in &judged {
            let verdict = verdict.map_or_else(|| "not limited here".to_owned(), |verdict| format!("{verdict:?}"));
            writeln!(out, "{name:<11} {verdict:<5} {wall_ms:>6} ms  {why}")?;
        }
    }
    let wrong = judged.iter().find(|judged| judged.verdict.is_some_and(|verdict| verdict != judged.expected));
    anyhow::ensure!(wrong.is_none(), "{:?} was expected", wrong.map(|judged| (judged.name, judged.expected)));
    Ok(())
}
