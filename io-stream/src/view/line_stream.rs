//! A subscription as lines: the view with a clock, so that prompts show.
//!
//! Pulls events out of a subscriber on demand; holds one of them at most.

use tokio::time::timeout;

use super::lines::{Line, LineOptions, Lines, Piece};
use crate::cursor::Cursor;
use crate::event::{End, Event, Gap};
use crate::subscriber::Subscriber;

/// One event of a subscription that is read as lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineEvent {
    /// A line, or a part of one.
    Line(Line),
    /// Bytes that this subscriber will not get. Lines are never joined over it.
    Gap(Gap),
    /// The stream is over; the last event.
    End(End),
    /// This subscriber was too slow and had chosen to be disconnected; the last event. It may resume at
    /// the cursor.
    Lagged(Cursor),
}

/// A [`Subscriber`] as lines, made by [`Subscriber::lines`].
#[derive(Debug)]
pub struct LineStream {
    subscriber: Subscriber,
    lines: Lines,
    options: LineOptions,
    /// The chunk that is being taken apart.
    piece: Option<Piece>,
    /// What comes after the unfinished lines.
    next: Option<LineEvent>,
}

impl LineStream {
    pub(crate) fn new(subscriber: Subscriber, options: LineOptions) -> Self {
        Self { subscriber, lines: Lines::new(options), options, piece: None, next: None }
    }

    /// The next event; `None` after the last one.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with a timer, if [`LineOptions::idle`] is set.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: nothing is lost.
    pub async fn next(&mut self) -> Option<LineEvent> {
        loop {
            if let Some(event) = self.ready() {
                return Some(event);
            }
            let wait = self.options.idle.filter(|_| self.lines.has_partial());
            let event = match wait {
                None => self.subscriber.recv().await?,
                Some(idle) => match timeout(idle, self.subscriber.recv()).await {
                    Ok(event) => event?,
                    Err(_) => return self.lines.flush().map(LineEvent::Line),
                },
            };
            match event {
                Event::Chunk(chunk) => self.piece = Some(chunk.into()),
                Event::Gap(gap) => self.next = Some(LineEvent::Gap(gap)),
                Event::End(end) => self.next = Some(LineEvent::End(end)),
                Event::Lagged { cursor, .. } => self.next = Some(LineEvent::Lagged(cursor)),
            }
        }
    }

    /// What there is without waiting.
    fn ready(&mut self) -> Option<LineEvent> {
        if let Some(line) = self.piece.as_mut().and_then(|piece| self.lines.next_from(piece)) {
            return Some(LineEvent::Line(line));
        }
        self.piece = None;
        let unfinished = match self.next.as_ref()? {
            LineEvent::Gap(gap) => self.lines.cut(gap.source),
            LineEvent::Line(_) | LineEvent::End(_) | LineEvent::Lagged(_) => self.lines.flush(),
        };
        unfinished.map(LineEvent::Line).or_else(|| self.next.take())
    }
}
