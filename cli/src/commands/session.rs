//! Attached to a process of a container: its output to us, our input to it, until either ends. It outlives the daemon:
//! each piece of output comes with its place, and what follows that is what the next connection begins with.
//!
//! ```text
//!   reading ── frames -> our streams, the exit      typing ── our input -> frames      attending ── signals, window: by requests
//!   of their own, because a process that does not read its input must not hold them up
//! ```

use std::future::pending;
use std::io::Write as _;
use std::time::Duration;

use futures_util::future::FusedFuture as _;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use hyper::Method;
use orangery::Source;
use orangery_daemon::wire::{
    Asked as Said, Container, Exit, Kill, Output as Piece, ProblemKind, Resize, Stream, Text, Told,
};

use super::input::Input;
use super::output::Output;
use super::pieces::{Gap, REMOVED, between, piece, read};
use crate::client::{Again, Client, Feed, Frame, GONE, Lost, Socket, Target, away, lost, refused};
use crate::errors::{Failure, notice};
use crate::signals::{self, Signals};
use crate::terminal::{Asked, Session as Window, window};

/// How long what was typed before the detach keys may take to get away.
const LINGER: Duration = Duration::from_secs(1);

/// How it was left.
#[derive(Debug)]
pub(super) enum Left {
    /// The process has ended so, or nobody knows how.
    Ended(Option<Box<Exit>>),
    /// By the detach keys, or because nobody reads us; the process goes on.
    Detached,
    /// By this signal of ours.
    Signal(i32),
}

/// Whose process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Ours: it was started for us, and is told when nobody reads it.
    Ours,
    /// Its container's.
    Theirs,
}

/// What the two ways have.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) client: &'a Client,
    /// The process.
    pub(super) process: Target,
    pub(super) whose: Whose,
    /// What of its output is wanted first: a parameter and its value.
    pub(super) first: (&'static str, String),
    pub(super) input: Option<Input>,
    /// Our terminal, when it has one.
    pub(super) window: Option<Window>,
    /// Those that go to it; `None`: they end us.
    pub(super) signals: Option<Signals>,
    pub(super) again: Again,
    pub(super) output: Output,
}

/// What has come to us.
#[derive(Debug, Default)]
struct Got {
    /// Behind the last piece of output.
    place: Option<String>,
    exit: Option<Box<Exit>>,
    /// It reads no more of its input, or has got all of it.
    input_closed: bool,
}

/// What has gone from us.
#[derive(Debug, Default)]
struct Sent {
    /// Input, or its end, of which nobody has said that it arrived; but not what is typed: who types sees that.
    input: bool,
    interrupts: u32,
}

impl Session<'_> {
    /// Until either side ends it.
    ///
    /// # Errors
    /// The daemon refuses, is away for longer than is waited for, or has gone while input was on its way.
    pub(super) async fn run(mut self) -> Result<Left, Failure> {
        let (mut got, mut sent) = (Got::default(), Sent::default());
        let left = loop {
            match self.connected(&mut got, &mut sent).await {
                Ok(left) => break left,
                // It has ended: nobody can be at it any more, and what it wrote is in its log.
                Err(Lost::Refused(failure)) if failure.kind() == "state" => {
                    if self.input.is_some() && !self.is_at_rest().await? {
                        return Err(failure.with_hint("the same without -i, which only looks"));
                    }
                    break self.rest(got).await?;
                }
                Err(Lost::Gone(failure, oldest)) => {
                    let gaps = got.place.as_deref().and_then(|place| between(place, &oldest));
                    let gaps = gaps.filter(|gaps| !gaps.is_empty()).ok_or(failure)?;
                    gaps.into_iter().for_each(|(source, from, to)| missing(source.as_str(), from, to, REMOVED));
                    got.place = Some(oldest);
                }
                Err(lost) => {
                    if let Some(left) = self.away(lost, &got, &sent).await? {
                        break left;
                    }
                }
            }
        };
        // Our terminal is ours again before anything is said about it.
        let Self { window, output, .. } = self;
        let had_window = window.is_some();
        drop(window);
        output.end().await?;
        if had_window && matches!(left, Left::Detached) {
            // Behind whatever the command has written last.
            let _ = std::io::stderr().write_all(b"\norangery: detached: the command goes on\n");
        }
        Ok(left)
    }

    /// One connection, until it is lost.
    async fn connected(&mut self, got: &mut Got, sent: &mut Sent) -> Result<Left, Lost> {
        let socket = self.connect(got).await?;
        let (sink, stream) = socket.split();
        let Self { client, process, whose, input, window, signals, again, output, .. } = self;
        let ours = Ours { client, process, whose: *whose };
        let mut typing = std::pin::pin!(type_on(input, sink, &mut sent.input).fuse());
        tokio::select! {
            left = ours.read(stream, got, output, again) => left,
            left = ours.attend(window, signals, &mut sent.interrupts) => {
                if matches!(left, Left::Detached) && !typing.is_terminated() {
                    // What was typed in front of the keys; but a process that does not read holds nobody here.
                    let _ = tokio::time::timeout(LINGER, typing).await;
                }
                Ok(left)
            },
            // There is no more of it.
            never = async { typing.as_mut().await; pending().await } => never,
        }
    }

    /// Whether the container has ended; asked about its own command alone.
    async fn is_at_rest(&self) -> Result<bool, Failure> {
        Ok(self.client.get::<Container>(&self.process).await?.state.is_at_rest())
    }

    /// What the log has behind our place, and how it ended.
    async fn rest(&mut self, mut got: Got) -> Result<Left, Failure> {
        let Self { client, process, whose, first, again, signals, window, output, .. } = self;
        let first = Some((first.0, first.1.clone()));
        let feed = Feed::new(client, process.clone().then("logs"), first, again.clone());
        let mut feed = feed.behind(got.place.as_deref().unwrap_or_default());
        loop {
            let message = tokio::select! {
                message = feed.next() => message?,
                () = let_go(window) => return Ok(Left::Detached),
                signal = next_signal(signals) => return Ok(Left::Signal(signal)),
            };
            match message.event.as_str() {
                "" | "message" => {
                    let piece = piece(&message)?;
                    if !output.write(piece.source, &piece.data).await && *whose == Whose::Theirs {
                        return Ok(Left::Detached);
                    }
                }
                "gap" => {
                    let gap: Gap = read(&message)?;
                    missing(gap.source().as_str(), gap.from, gap.to, &gap.cause);
                }
                "exit" => got.exit = Some(Box::new(read(&message)?)),
                "end" => return Ok(Left::Ended(got.exit)),
                GONE => return Err(Failure::new("the log of this process is gone").with_kind("gone")),
                _ => {}
            }
        }
    }

    async fn connect(&mut self, got: &Got) -> Result<Socket, Lost> {
        let place = match &got.place {
            Some(cursor) => ("cursor", cursor.clone()),
            None => self.first.clone(),
        };
        let mut target = self.process.clone().then("attach").query(place.0, place.1);
        if let (Some(_), Some((rows, columns))) = (&self.window, window()) {
            target = target.query("rows", rows).query("columns", columns);
        }
        let stdin = target.clone().query("stdin", self.input.is_some());
        match self.client.attach(&stdin).await {
            // It reads no input any more; of one that has ended the rest is still worth to be had.
            Err(Lost::Refused(failure)) if failure.kind() == "state" && self.may_go_without(got) => {
                self.input = None;
                self.client.attach(&target).await
            }
            other => other,
        }
    }

    /// Whether its input may be closed by now, and nobody is to be told.
    fn may_go_without(&self, got: &Got) -> bool {
        self.input.is_some() && (self.whose == Whose::Ours || got.place.is_some())
    }

    /// Wait for the daemon; `None`: try again.
    async fn away(&mut self, lost: Lost, got: &Got, sent: &Sent) -> Result<Option<Left>, Failure> {
        if let (Lost::Away(failure), true) = (&lost, sent.input && !got.input_closed) {
            tracing::info!(why = failure.what(), "lost");
            let what = "the daemon has gone away while input was on its way: nobody knows how much of it has arrived";
            return Err(Failure::new(what)
                .with_kind("connection")
                .with_hint("orangery inspect, which knows whether the command still runs"));
        }
        let Self { client, again, window, signals, .. } = self;
        tokio::select! {
            again = again.after(client, lost) => again.map(|()| None),
            () = let_go(window) => Ok(Some(Left::Detached)),
            signal = next_signal(signals) => Ok(Some(Left::Signal(signal))),
        }
    }
}

/// Never, without a window.
async fn let_go(window: &mut Option<Window>) {
    while asked(window).await != Asked::LetGo {}
}

async fn next_signal(signals: &mut Option<Signals>) -> i32 {
    match signals {
        Some(signals) => signals.next().await,
        None => pending().await,
    }
}

/// Our input, as long as there is any. A connection that takes no more may still have something for us: its end is found by
/// who reads.
async fn type_on(input: &mut Option<Input>, mut sink: SplitSink<Socket, Frame>, sent: &mut bool) {
    while let Some(from) = input {
        let frame = match from.next().await {
            Some(data) => {
                *sent = !from.is_typed();
                Frame::binary(data)
            }
            // Who typed has left, or his terminal has: others say so.
            None if from.is_typed() => return,
            None => {
                *sent = true;
                *input = None;
                said(&Said::CloseStdin)
            }
        };
        if let Err(error) = sink.send(frame).await {
            return tracing::debug!(%error, "input is not taken any more");
        }
    }
}

/// A type of ours can be written.
fn said(said: &Said) -> Frame {
    Frame::text(serde_json::to_string(said).unwrap_or_default())
}

/// Who is asked about which process.
#[derive(Clone, Copy)]
struct Ours<'a> {
    client: &'a Client,
    process: &'a Target,
    whose: Whose,
}

impl Ours<'_> {
    /// Until the end, or until the connection is lost.
    async fn read(
        self,
        mut frames: SplitStream<Socket>,
        got: &mut Got,
        output: &mut Output,
        again: &mut Again,
    ) -> Result<Left, Lost> {
        while let Some(frame) = frames.next().await {
            match frame.map_err(|error| lost(&error))? {
                Frame::Binary(frame) => {
                    let Some(Piece { stream, cursor, bytes }) = Piece::decode(&frame) else { continue };
                    let source = if stream == Stream::Stderr { Source::Stderr } else { Source::Stdout };
                    let read = output.write(source, bytes).await;
                    got.place = Some(cursor.to_owned());
                    again.worked();
                    if !read && self.unread().await {
                        return Ok(Left::Detached);
                    }
                }
                Frame::Text(text) => {
                    let told = serde_json::from_str(&text).unwrap_or(Told::Unknown);
                    if let Some(left) = told_us(told, got, again)? {
                        return Ok(left);
                    }
                }
                Frame::Close(_) => break,
                _ => {}
            }
        }
        Err(away())
    }

    /// Nobody reads us any more. A process of ours is told so, as a pipe would tell it; from another one we go: `true`.
    async fn unread(self) -> bool {
        if self.whose == Whose::Ours {
            self.signal(signals::PIPE).await;
        }
        self.whose == Whose::Theirs
    }

    /// Signals and the size of our window, until one of them ends us.
    async fn attend(self, window: &mut Option<Window>, signals: &mut Option<Signals>, interrupts: &mut u32) -> Left {
        let has_window = window.is_some();
        loop {
            tokio::select! {
                asked = asked(window) => match asked {
                    Asked::LetGo => return Left::Detached,
                    Asked::Size(rows, columns) => self.tell("resize", &Resize { rows, columns }).await,
                },
                signal = next_signal(signals) => match signal {
                    // Our terminal is gone, and with it who typed.
                    signals::HUP if has_window => {
                        if self.whose == Whose::Ours {
                            self.signal(signal).await;
                        }
                        return Left::Signal(signal);
                    }
                    signals::INT => {
                        *interrupts += 1;
                        match *interrupts {
                            1 => self.signal(signal).await,
                            2 => self.signal(signals::KILL).await,
                            _ => return Left::Signal(signal),
                        }
                    }
                    signal => self.signal(signal).await,
                },
            }
        }
    }

    async fn signal(self, signal: i32) {
        tracing::info!(signal = signals::name(signal), "forwarded");
        self.tell("kill", &Kill { signal: Some(Text::from(signals::name(signal))) }).await;
    }

    /// It may have ended, or the daemon be away: then there is nobody to be told.
    async fn tell(self, what: &str, body: &impl serde::Serialize) {
        if let Err(lost) = self.client.send(Method::POST, &self.process.clone().then(what), body, &[]).await {
            tracing::info!(what, why = Failure::from(lost).what(), "not told");
        }
    }
}

async fn asked(window: &mut Option<Window>) -> Asked {
    match window {
        Some(window) => window.next().await,
        None => pending().await,
    }
}

fn missing(stream: &str, from: u64, to: u64, cause: &str) {
    notice(&format!("{} bytes of {stream} are missing from {from} on ({cause})", to.saturating_sub(from)));
}

/// What a text says; `Some`: it was the last one.
fn told_us(told: Told, got: &mut Got, again: &mut Again) -> Result<Option<Left>, Lost> {
    match told {
        Told::Attached { cursor, .. } => {
            again.back();
            got.place.get_or_insert(cursor);
        }
        Told::Gap { stream, from, to, cause, cursor } => {
            missing(&stream, from, to, &cause);
            got.place = Some(cursor);
        }
        Told::StdinClosed => got.input_closed = true,
        Told::Exit(exit) => got.exit = Some(Box::new(exit)),
        Told::End { .. } => return Ok(Some(Left::Ended(got.exit.take()))),
        Told::Bye { cursor } => {
            got.place = Some(cursor);
            return Err(away());
        }
        Told::Problem { problem } => {
            let goes = matches!(problem.kind, ProblemKind::ShutDown | ProblemKind::Keeper);
            let failure = refused(*problem);
            return Err(if goes { Lost::Away(failure) } else { Lost::Refused(failure) });
        }
        Told::Unknown => {}
    }
    Ok(None)
}
