//! A WebSocket that is attached to a process: its output, and, for one client at a time, its standard input.
//!
//! Three things go on at one time and none holds up another: what the process writes goes to the client (`output`), what the
//! client says is done (`input`, with the bytes for the process in a short queue of their own), and silence is noticed
//! (`alive`).

use std::cell::Cell;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::web::{Bytes, Data, Payload};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, Closed, Session};
use futures_util::StreamExt as _;
use orangery::{Cursor, Event, ProcessHandle, Source, StdinWriter};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::daemon::{Daemon, going};
use super::failed::{Answer, Failed, failed};
use super::frames;
use super::peer::Taken;
use super::place::Kind;
use super::reader::{Item, Reader};
use super::streams::{one_more, reader};
use super::target::Target;
use super::view;
use crate::signal;
use crate::wire::{Asked, Output, Problem, ProblemKind, Stream, Told};

/// The largest message of a client.
const LARGEST: usize = 1 << 20;
/// Messages for the standard input that wait for the process.
const QUEUE: usize = 8;
/// A client from which nothing comes for so many heartbeats is gone.
const SILENT: u32 = 3;

/// One client.
struct Attached {
    process: ProcessHandle,
    number: u32,
    tty: bool,
    session: Session,
    heard: Cell<Instant>,
    /// It waits for us: the process does not read what it has sent.
    held: Cell<bool>,
    /// The place behind what was sent: what is read and still on its way is not.
    sent: Cell<Cursor>,
}

/// GET .../attach
pub(super) async fn attach(daemon: Data<Daemon>, request: HttpRequest, payload: Payload) -> Answer {
    let one = one_more(&daemon, &request)?;
    let (reader, wanted) = reader(&daemon, &request, Kind::Attach).await?;
    let target = Target::of(&daemon, &request)?;
    let process = target.process()?;
    if let Some((rows, columns)) = wanted.size {
        process.resize(rows, columns)?;
    }
    let payload = frames::bounded(&request, payload, LARGEST).await?;
    let handshake = actix_ws::handle(&request, payload);
    let (answer, session, messages) =
        handshake.map_err(|error| failed(ProblemKind::Usage, format!("this is for WebSockets: {error}")))?;
    // Last, before anything is answered: one that is taken and given up is closed, where it is not kept.
    let taken = || failed(ProblemKind::State, "its standard input is closed, or somebody else writes it");
    let stdin = if wanted.stdin { Some(process.stdin().ok_or_else(taken)?) } else { None };
    let messages = messages.max_frame_size(LARGEST).aggregate_continuations().max_continuation_size(LARGEST);
    let (number, tty) = (target.number(), target.tty());
    let (heard, held, sent) = (Cell::new(Instant::now()), Cell::new(false), Cell::new(reader.place()));
    let client = Attached { process, number, tty, session, heard, held, sent };
    actix_web::rt::spawn(client.serve(reader, stdin, messages, (daemon.bye.clone(), daemon.heartbeat, one)));
    Ok(answer)
}

impl Attached {
    async fn serve(
        self,
        mut reader: Reader,
        stdin: Option<StdinWriter>,
        messages: AggregatedMessageStream,
        (mut bye, heartbeat, _one): (watch::Receiver<bool>, Duration, Taken),
    ) {
        let (queue, queued) = mpsc::channel(QUEUE);
        let queue = stdin.is_some().then_some(queue);
        let first = Told::Attached {
            process: self.number,
            tty: self.tty,
            stdin: stdin.is_some(),
            cursor: reader.place().to_string(),
        };
        let closed = tokio::select! {
            biased;
            () = going(&mut bye) => None,
            code = async {
                self.tell(&first).await?;
                self.output(&mut reader).await
            } => code.ok(),
            code = self.input(messages, queue) => code,
            () = self.write(stdin, queued) => None,
            () = self.alive(heartbeat) => return,
        };
        let farewell = async {
            let code = match closed {
                Some(code) => code,
                None => {
                    let _ = self.tell(&Told::Bye { cursor: self.sent.get().to_string() }).await;
                    CloseCode::Away
                }
            };
            let _ = self.session.clone().close(Some(code.into())).await;
        };
        // Who does not read is not told.
        let _ = timeout(heartbeat, farewell).await;
    }

    async fn tell(&self, told: &Told) -> Result<(), Closed> {
        let text = serde_json::to_string(told).unwrap_or_default();
        self.session.clone().text(text).await
    }

    /// What the process writes, to its end.
    async fn output(&self, reader: &mut Reader) -> Result<CloseCode, Closed> {
        loop {
            let item = reader.next().await;
            let cursor = reader.place().to_string();
            match item {
                Item::Event(Event::Chunk(chunk)) => {
                    let stream = match chunk.source {
                        Source::Stdout => Stream::Stdout,
                        Source::Stderr => Stream::Stderr,
                    };
                    let frame = Output { stream, cursor: &cursor, bytes: &chunk.data }.encode();
                    self.session.clone().binary(frame).await?;
                }
                Item::Event(Event::Gap(gap)) => {
                    let (stream, cause) = (gap.source.to_string(), gap.cause.to_string());
                    self.tell(&Told::Gap { stream, from: gap.from, to: gap.to, cause, cursor }).await?;
                }
                Item::Event(Event::Lagged { .. }) => {
                    self.refuse(failed(ProblemKind::Exhausted, "too slow: come back")).await?;
                    return Ok(CloseCode::Again);
                }
                Item::Exit(report) => self.tell(&Told::Exit(view::exit(&report))).await?,
                Item::Cut => return Ok(CloseCode::Again),
                Item::Event(Event::End(_)) | Item::Now | Item::Over => {
                    self.tell(&Told::End { cursor }).await?;
                    return Ok(CloseCode::Normal);
                }
                Item::Event(_) => {}
            }
            self.sent.set(reader.place());
        }
    }

    async fn refuse(&self, failed: Failed) -> Result<(), Closed> {
        self.tell(&Told::Problem { problem: failed.0 }).await
    }

    /// What the client says, until it leaves.
    async fn input(
        &self,
        mut messages: AggregatedMessageStream,
        mut queue: Option<mpsc::Sender<Bytes>>,
    ) -> Option<CloseCode> {
        while let Some(message) = messages.next().await {
            self.heard.set(Instant::now());
            let done = match message {
                Ok(AggregatedMessage::Binary(bytes)) => match &queue {
                    // Where nobody reads any more the rest is for nobody.
                    Some(queue) => {
                        self.held.set(true);
                        let _ = queue.send(bytes).await;
                        self.held.set(false);
                        self.heard.set(Instant::now());
                        Ok(())
                    }
                    None => Err(failed(ProblemKind::State, "this client does not write the standard input")),
                },
                Ok(AggregatedMessage::Text(text)) => match serde_json::from_str(&text) {
                    Ok(Asked::CloseStdin) => {
                        queue = None;
                        Ok(())
                    }
                    Ok(asked) => self.act(&asked),
                    Err(error) => Err(Problem::new(ProblemKind::Invalid, error.to_string()).into()),
                },
                Ok(AggregatedMessage::Ping(bytes)) => {
                    let _ = self.session.clone().pong(&bytes).await;
                    Ok(())
                }
                Ok(AggregatedMessage::Pong(_)) => Ok(()),
                Ok(AggregatedMessage::Close(_)) => return Some(CloseCode::Normal),
                Err(error) => {
                    let _ = self.refuse(failed(ProblemKind::Usage, error.to_string())).await;
                    return Some(CloseCode::Protocol);
                }
            };
            if let Err(why) = done
                && self.refuse(why).await.is_err()
            {
                break;
            }
        }
        Some(CloseCode::Normal)
    }

    fn act(&self, asked: &Asked) -> Result<(), Failed> {
        match asked {
            Asked::Resize { rows, columns } => Ok(self.process.resize(*rows, *columns)?),
            Asked::Signal { signal } => {
                let number = signal::number(signal.as_str());
                let number = number.map_err(|why| Problem::new(ProblemKind::Invalid, why).field("signal"))?;
                Ok(self.process.signal(number)?)
            }
            Asked::CloseStdin => Ok(()),
        }
    }

    /// Bytes for the standard input, as fast as it takes them; goes on for ever, as the output may.
    async fn write(&self, stdin: Option<StdinWriter>, mut queued: mpsc::Receiver<Bytes>) {
        if let Some(mut stdin) = stdin {
            let mut reads = true;
            while let Some(bytes) = queued.recv().await {
                if reads && stdin.write_all_bytes(bytes).await.is_err() {
                    reads = false;
                    let _ = self.tell(&Told::StdinClosed).await;
                }
            }
            // The client has said so; one that only leaves ends all of this before. All that it has sent has arrived.
            let _ = stdin.shutdown().await;
            if reads {
                let _ = self.tell(&Told::StdinClosed).await;
            }
        }
        std::future::pending().await
    }

    /// Returns when nothing has come from the client for too long.
    async fn alive(&self, heartbeat: Duration) {
        let mut ticks = interval(heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.held.get() && self.heard.get().elapsed() > heartbeat * SILENT {
                return;
            }
            // A client that does not read is not asked twice.
            if let Ok(Err(_)) = timeout(heartbeat, self.session.clone().ping(b"")).await {
                return;
            }
        }
    }
}
