//! A session: an interpreter in a sandbox of a pool, which is replaced when a cell has ruined it.

use std::time::Duration;

use anyhow::Context as _;
use orangery::{
    Cause, Event, Lease, LimitKind, Overflow, Pool, ProcessHandle, Resource, Rlimit, Sources, Stdin, StdinWriter,
    SubscribeOptions, Subscriber,
};
use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout, timeout_at};

use crate::frame::Frame;

/// How much a cell may write to both streams together, before it is ended.
pub(crate) const FLOOD: usize = 4 << 20;
/// How long an interrupted cell may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How long the interpreter may take to start.
const START: Duration = Duration::from_secs(30);
/// Address space of the interpreter, in case there is no cgroup to limit its memory.
const ADDRESSES: u64 = 1 << 30;

/// What runs the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    Shell,
}

/// How a cell ended. After all but the first three its names are gone: it was the last of its interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    Ok,
    /// It raised something, or its last command failed.
    Failed,
    /// It took too long and took the interrupt.
    Interrupted,
    /// It took too long and was killed.
    Killed,
    /// It wrote too much.
    Flood,
    OutOfMemory,
    /// The interpreter has ended.
    Exited(i32),
}

/// What came of one.
#[derive(Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) end: End,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Bytes of both streams that were not kept.
    pub(crate) cut: usize,
}

pub(crate) struct Session {
    pool: Pool,
    language: Language,
    time: Duration,
    interpreter: Interpreter,
}

struct Interpreter {
    process: ProcessHandle,
    requests: StdinWriter,
    output: Subscriber,
    /// Dropped last: the sandbox goes with it.
    _sandbox: Lease,
}

impl Session {
    /// `time`: what each cell has.
    pub(crate) async fn start(pool: &Pool, language: Language, time: Duration) -> anyhow::Result<Self> {
        let interpreter = Interpreter::start(pool, language).await?;
        Ok(Self { pool: pool.clone(), language, time, interpreter })
    }

    /// Forget everything.
    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        self.interpreter = Interpreter::start(&self.pool, self.language).await?;
        Ok(())
    }

    pub(crate) async fn run(&mut self, code: &str) -> anyhow::Result<Cell> {
        let nonce = nonce()?;
        let mut frames = [Frame::new(&nonce), Frame::new(&nonce)];
        let end = self.interpreter.run(&nonce, code, self.time, &mut frames).await?;
        let ruined = !matches!(end, End::Ok | End::Failed | End::Interrupted);
        if ruined {
            frames.iter_mut().for_each(Frame::close);
            self.reset().await?;
        }
        let cut = frames.iter().map(|frame| frame.seen - frame.kept.len()).sum();
        let [stdout, stderr] = frames.map(|frame| String::from_utf8_lossy(&frame.kept).into_owned());
        Ok(Cell { end, stdout, stderr, cut })
    }
}

impl Interpreter {
    async fn start(pool: &Pool, language: Language) -> anyhow::Result<Self> {
        let sandbox = pool.take().await?;
        let command = match language {
            Language::Python => sandbox.command("python3").args(["-u", "-c", include_str!("driver.py")]),
            Language::Shell => sandbox.command("sh").args(["-c", include_str!("driver.sh")]),
        };
        let addresses = Rlimit { resource: Resource::As, soft: ADDRESSES, hard: ADDRESSES };
        let process = command.stdin(Stdin::Piped).rlimit(addresses).current_dir("/tmp").spawn().await?;
        // Not a byte may be lost, or the mark might be among them: the interpreter waits for us rather.
        let overflow = Overflow::block(Duration::from_secs(60));
        let output = process.subscribe(SubscribeOptions { sources: Sources::Both, overflow, ..Default::default() });
        let requests = process.stdin().context("its standard input is a pipe")?;
        let mut interpreter = Self { process, requests, output, _sandbox: sandbox };
        // Its start is not on the account of the first cell.
        let nonce = nonce()?;
        let mut frames = [Frame::new(&nonce), Frame::new(&nonce)];
        let end = interpreter.run(&nonce, "", START, &mut frames).await?;
        anyhow::ensure!(end == End::Ok, "it does not start: {end:?}, {:?}", String::from_utf8_lossy(&frames[1].kept));
        Ok(interpreter)
    }

    async fn run(&mut self, nonce: &str, code: &str, time: Duration, frames: &mut [Frame; 2]) -> anyhow::Result<End> {
        let until = Instant::now() + time;
        let request = format!("{nonce} {}\n{code}", code.len());
        // It may have closed the other end, or read nothing of it for as long as it is allowed to run.
        let sent = timeout_at(until, self.requests.write_all(request.as_bytes())).await;
        if matches!(sent, Ok(Ok(()))) {
            match timeout_at(until, self.hear(frames)).await {
                Ok(Some(end)) => return Ok(end),
                Ok(None) => return self.gone().await,
                Err(_) => {}
            }
        } else if let Ok(Err(_)) = sent {
            let _ = self.process.kill();
            return self.gone().await;
        }
        // It may end this very moment: then there is nobody to interrupt.
        let _ = self.process.signal(2);
        match timeout(GRACE, self.hear(frames)).await {
            Ok(Some(end)) => Ok(end),
            Ok(None) => self.gone().await,
            Err(_) => Ok(End::Killed),
        }
    }

    /// Read until both streams have said how the cell went; `None`: they have ended.
    async fn hear(&mut self, frames: &mut [Frame; 2]) -> Option<End> {
        let [stdout, stderr] = frames;
        while stdout.status.is_none() || stderr.status.is_none() {
            match self.output.recv().await? {
                Event::Chunk(chunk) if chunk.source == orangery::Source::Stdout => stdout.push(&chunk.data),
                Event::Chunk(chunk) => stderr.push(&chunk.data),
                Event::End(_) => return None,
                _ => {}
            }
            if stdout.seen + stderr.seen > FLOOD {
                return Some(End::Flood);
            }
        }
        Some(match stdout.status.as_deref() {
            Some(b"ok") => End::Ok,
            Some(b"interrupted") => End::Interrupted,
            _ => End::Failed,
        })
    }

    async fn gone(&self) -> anyhow::Result<End> {
        // What it has started may hold the streams; it does not hold us.
        let exit = timeout(GRACE, self.process.wait_exit()).await;
        if exit.is_err() {
            let _ = self.process.kill();
        }
        let report = self.process.wait().await?;
        Ok(match report.cause {
            Cause::Limit(LimitKind::Memory) => End::OutOfMemory,
            _ => End::Exited(report.shell_code()),
        })
    }
}

/// For one cell.
fn nonce() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
