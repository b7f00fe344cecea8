//! How long the frames of a WebSocket say that they are, before anybody keeps a byte of them.
//!
//! The parser that we use compares the length of a frame with what is allowed when the whole frame is there: whoever announces
//! one of 2^62 bytes, and sends on, would have all of it kept (actix-http 3.20, `ws::Parser::parse`).

use std::pin::Pin;

use actix_web::error::PayloadError;
use actix_web::web::{Bytes, Payload};
use actix_web::{FromRequest as _, HttpRequest, dev};
use futures_util::{Stream, StreamExt as _};

use super::failed::{Failed, failed};
use crate::wire::ProblemKind;

/// The longest head of a frame: two bytes, eight of length, four of mask (RFC 6455, 5.2).
const HEAD: usize = 14;

/// The frames of one client, as they come.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    have: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
}

impl Frames {
    /// Some bytes more; `false`: a frame says that it is longer than `most`.
    fn pass(&mut self, mut bytes: &[u8], most: u64) -> bool {
        while let [first, rest @ ..] = bytes {
            if self.left > 0 {
                let skip = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= skip as u64;
                bytes = bytes.get(skip..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *first;
            }
            (self.have, bytes) = (self.have + 1, rest);
            if self.have == self.length_of_head() {
                (self.left, self.have) = (self.length(), 0);
                if self.left > most {
                    return false;
                }
            }
        }
        true
    }

    /// As far as is known by now.
    fn length_of_head(&self) -> usize {
        let [_, second, ..] = self.head;
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        match (self.have, second & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4 + mask,
            (_, 127) => 10 + mask,
            _ => 2 + mask,
        }
    }

    fn length(&self) -> u64 {
        let [_, second, a, b, c, d, e, f, g, h, ..] = self.head;
        match second & 0x7f {
            126 => u16::from_be_bytes([a, b]).into(),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => short.into(),
        }
    }
}

/// What a client sends, which ends with an error at the head of a frame of more than `most` bytes.
///
/// # Errors
/// None of a request that has a body.
pub(super) async fn bounded(request: &HttpRequest, payload: Payload, most: usize) -> Result<Payload, Failed> {
    let mut frames = Frames::default();
    let most = most as u64;
    let bytes = payload.into_inner().map(move |bytes: Result<Bytes, PayloadError>| {
        let bytes = bytes?;
        if frames.pass(&bytes, most) { Ok(bytes) } else { Err(PayloadError::Overflow) }
    });
    let bytes: Pin<Box<dyn Stream<Item = Result<Bytes, PayloadError>>>> = Box::pin(bytes);
    let mut payload = dev::Payload::Stream { payload: bytes };
    let wrapped = Payload::from_request(request, &mut payload).await;
    wrapped.map_err(|error| failed(ProblemKind::Usage, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with this payload.
    fn frame(length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x82];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short), _) if short < 126 => bytes.push(mask | short),
            (_, Ok(middle)) => bytes.extend([&[mask | 126][..], &middle.to_be_bytes()].concat()),
            _ => bytes.extend([&[mask | 127][..], &(length as u64).to_be_bytes()].concat()),
        }
        bytes.extend([0; 4].iter().take(if masked { 4 } else { 0 }));
        // What looks like the head of a long one.
        bytes.extend([0xff].repeat(length));
        bytes
    }

    #[test]
    fn lengths_are_read_however_the_bytes_come() {
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 100_000];
        let all: Vec<u8> =
            lengths.iter().flat_map(|length| [frame(*length, true), frame(*length, false)].concat()).collect();
        for piece in [1, 2, 3, 7, 13, 4096, all.len()] {
            let mut frames = Frames::default();
            assert!(all.chunks(piece).all(|bytes| frames.pass(bytes, 100_000)), "{piece}");
            assert_eq!((frames.have, frames.left), (0, 0), "{piece}");
            let mut frames = Frames::default();
            let refused = all.chunks(piece).position(|bytes| !frames.pass(bytes, 99_999));
            // At the head of the last but one, before a byte of its payload is needed.
            let head = all.len() - 2 * 100_000 - 10;
            assert!(refused.is_some_and(|at| at * piece < head && (at + 1) * piece >= head), "{piece}: {refused:?}");
        }
        assert!(
            !Frames::default().pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4], 1 << 20)
        );
    }
}
