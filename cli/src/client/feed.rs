//! A stream of server-sent events that outlives its connections: what the next one begins with is what follows the last
//! event of the one before. It has no end of its own: its reader knows the event that is the last one, and asks for no more.

use http_body_util::BodyExt as _;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderName;

use super::again::Again;
use super::connection::broken_off;
use super::sse::Parser;
use super::{Client, Lost, Message, Target};
use crate::errors::Failure;

/// The header that says where to go on.
const LAST: HeaderName = HeaderName::from_static("last-event-id");
/// The event of a daemon that goes while the stream goes on.
const BYE: &str = "bye";
/// See [`Feed::next`].
pub(crate) const GONE: &str = "gone";

/// Where a stream begins, when there is no place yet: a parameter of the query, and its value.
pub(crate) type First = Option<(&'static str, String)>;

/// One such stream.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    client: &'a Client,
    target: Target,
    first: First,
    again: Again,
    parser: Parser,
    answer: Option<Incoming>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(client: &'a Client, target: Target, first: First, again: Again) -> Self {
        Self { client, target, first, again, parser: Parser::default(), answer: None }
    }

    /// The same, from behind a place that is known already.
    pub(crate) fn behind(self, place: &str) -> Self {
        Self { parser: Parser::going_on(place), ..self }
    }

    /// The next event. One of ours has the name [`GONE`]: the daemon is back, and does not have any more what follows the
    /// last event; the id is where it goes on, the data the place before.
    ///
    /// # Errors
    /// The daemon refuses, or is away for longer than is waited for.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Result<Message, Failure> {
        loop {
            let message = self.parser.next();
            let more = match (message, self.answer.as_mut()) {
                (Some(message), _) if message.event != BYE => {
                    self.again.worked();
                    return Ok(message);
                }
                (Some(_), _) => Err(Lost::Away(Failure::new("the daemon has gone away").with_kind("connection"))),
                (None, None) => self.connect().await,
                (None, Some(answer)) => match answer.frame().await {
                    Some(Ok(frame)) => self.take(frame.data_ref()),
                    Some(Err(error)) => Err(broken_off(&error)),
                    None => Err(Lost::Away(Failure::new("the daemon has ended the stream").with_kind("connection"))),
                },
            };
            match more {
                Ok(()) => {}
                Err(Lost::Gone(_, oldest)) if !self.parser.place().is_empty() && oldest != self.parser.place() => {
                    let before = std::mem::replace(&mut self.parser, Parser::going_on(&oldest));
                    return Ok(Message { event: GONE.into(), data: before.place().to_owned(), id: oldest });
                }
                Err(lost) => {
                    self.answer = None;
                    self.again.after(self.client, lost).await?;
                }
            }
        }
    }

    /// Everything that had come whole is handed out, and of an event that had not nothing was told.
    async fn connect(&mut self) -> Result<(), Lost> {
        let place = self.parser.place().to_owned();
        self.parser = Parser::going_on(&place);
        let (target, headers) = (self.target.clone(), [(LAST, place.as_str())]);
        let (target, headers) = match (&self.first, place.is_empty()) {
            (_, false) => (target, &headers[..]),
            (Some((key, value)), true) => (target.query(key, value), &[][..]),
            (None, true) => (target, &[][..]),
        };
        self.answer = Some(self.client.ask(Method::GET, &target, Bytes::new(), headers).await?.body());
        self.again.back();
        Ok(())
    }

    fn take(&mut self, data: Option<&Bytes>) -> Result<(), Lost> {
        let taken = data.map_or(Ok(()), |data| self.parser.push(data));
        taken.map_err(|_too_long| {
            Lost::Refused(Failure::new("the daemon sends an event that is longer than any").with_kind("protocol"))
        })
    }
}
