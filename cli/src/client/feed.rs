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

/// One such stream.
#[derive(Debug)]
pub(crate) struct Feed<'a> {
    client: &'a Client,
    target: Target,
    /// The place behind the last event; empty before the first.
    place: String,
    again: Again,
    parser: Parser,
    answer: Option<Incoming>,
}

impl<'a> Feed<'a> {
    pub(crate) fn new(client: &'a Client, target: Target, again: Again) -> Self {
        Self { client, target, place: String::new(), again, parser: Parser::default(), answer: None }
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
            if let Some(message) = self.parser.next() {
                self.place.clone_from(&message.id);
                self.again.worked();
                if message.event != BYE {
                    return Ok(message);
                }
                self.answer = None;
                continue;
            }
            let more = match self.answer.as_mut() {
                None => self.connect().await,
                Some(answer) => match answer.frame().await {
                    Some(Ok(frame)) => self.take(frame.data_ref()),
                    Some(Err(error)) => Err(broken_off(&error)),
                    None => Err(Lost::Away(Failure::new("the daemon has ended the stream").with_kind("connection"))),
                },
            };
            match more {
                Ok(()) => {}
                Err(Lost::Gone(_, oldest)) if !self.place.is_empty() && oldest != self.place => {
                    let before = std::mem::replace(&mut self.place, oldest.clone());
                    return Ok(Message { event: GONE.into(), data: before, id: oldest });
                }
                Err(lost) => {
                    self.answer = None;
                    self.again.after(self.client, lost).await?;
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Lost> {
        // Of an event that has not come whole nothing was told.
        self.parser = Parser::going_on(&self.place);
        let headers = [(LAST, self.place.as_str())];
        let headers = if self.place.is_empty() { &[][..] } else { &headers };
        self.answer = Some(self.client.ask(Method::GET, &self.target, Bytes::new(), headers).await?.body());
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
