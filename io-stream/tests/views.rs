//! Views of a subscription: lines with a clock, and the formats read back by another parser.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use orangery_io_stream::view::{Line, LineEvent, LineOptions, LineStream, cri, json_file, ndjson};
use orangery_io_stream::{EndInfo, Hub, HubOptions, Overflow, Source, SubscribeOptions};
use proptest::prelude::*;
use tokio::time::Instant;

fn lines(hub: &Hub) -> LineStream {
    hub.subscribe(SubscribeOptions::default()).lines(LineOptions::default())
}

async fn line(lines: &mut LineStream) -> Line {
    match lines.next().await {
        Some(LineEvent::Line(line)) => line,
        other => panic!("no line but {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_shows_after_a_silence() {
    let hub = Hub::new(HubOptions::default());
    let mut lines = lines(&hub);
    hub.publish(Source::Stdout, "done\nname? ".into()).await;
    assert!(line(&mut lines).await.is_whole());
    let began = Instant::now();
    let prompt = line(&mut lines).await;
    assert_eq!((&prompt.data[..], prompt.ends), (&b"name? "[..], false));
    assert_eq!(began.elapsed(), Duration::from_millis(100));
    // Shown once: with nothing more to show it waits without a clock.
    assert!(lines.next().now_or_never().is_none());
    hub.publish(Source::Stdout, "you\n".into()).await;
    let rest = line(&mut lines).await;
    assert_eq!((&rest.data[..], rest.begins, rest.ends, rest.line), (&b"you"[..], false, true, prompt.line));
}

#[tokio::test]
async fn unfinished_lines_come_before_gaps_and_ends() {
    let hub = Hub::new(HubOptions::default());
    let small = SubscribeOptions { queue_bytes: 4, overflow: Overflow::DropNewest, ..SubscribeOptions::default() };
    let mut lines = hub.subscribe(small).lines(LineOptions::default());
    for text in ["left", "lost", "lost"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(line(&mut lines).await.data, "left");
    assert!(matches!(lines.next().await, Some(LineEvent::Gap(gap)) if (gap.from, gap.to) == (4, 12)));
    hub.publish(Source::Stdout, "x\ny".into()).await;
    hub.close(EndInfo::default());
    let after = line(&mut lines).await;
    assert_eq!((after.begins, after.ends, after.line), (false, true, 12));
    let last = line(&mut lines).await;
    assert_eq!((&last.data[..], last.begins, last.ends), (&b"y"[..], true, false));
    assert!(matches!(lines.next().await, Some(LineEvent::End(_))));
    assert!(lines.next().await.is_none());
}

#[tokio::test]
async fn a_disconnected_reader_of_lines_learns_where_to_resume() {
    let hub = Hub::new(HubOptions::default());
    let small = SubscribeOptions { queue_bytes: 4, overflow: Overflow::Disconnect, ..SubscribeOptions::default() };
    let mut lines = hub.subscribe(small).lines(LineOptions::default());
    for text in ["left", "over"] {
        hub.publish(Source::Stdout, text.into()).await;
    }
    assert_eq!(line(&mut lines).await.data, "left");
    let Some(LineEvent::Lagged(cursor)) = lines.next().await else { panic!("not told where") };
    let mut again = hub.resume(cursor, SubscribeOptions::default()).unwrap().lines(LineOptions::default());
    hub.close(EndInfo::default());
    assert_eq!(line(&mut again).await.data, "over");
}

/// All events of a stream that was written in these pieces.
fn events(pieces: &[(Source, &[u8])], options: LineOptions) -> Vec<LineEvent> {
    let hub = Hub::new(HubOptions::default());
    let mut lines = hub.subscribe(SubscribeOptions::default()).lines(options);
    for (source, bytes) in pieces {
        assert!(hub.publish(*source, Bytes::copy_from_slice(bytes)).now_or_never().unwrap());
    }
    hub.close(EndInfo::default());
    std::iter::from_fn(|| lines.next().now_or_never().unwrap()).collect()
}

fn pieces() -> impl Strategy<Value = Vec<(Source, Vec<u8>)>> {
    let source = prop_oneof![Just(Source::Stdout), Just(Source::Stderr)];
    let byte = prop_oneof![2 => Just(b'\n'), 1 => Just(b'\r'), 1 => Just(b'"'), 3 => any::<u8>()];
    prop::collection::vec((source, prop::collection::vec(byte, 0..20)), 0..12)
}

fn of(pieces: &[(Source, Vec<u8>)], source: Source) -> Vec<u8> {
    pieces.iter().filter(|piece| piece.0 == source).flat_map(|piece| piece.1.clone()).collect()
}

proptest! {
    #[test]
    fn the_formats_lose_nothing(pieces in pieces(), max_len in 4..20_usize) {
        let carriage_return = orangery_io_stream::view::CarriageReturn::Keep;
        let options = LineOptions { max_len, carriage_return, idle: None };
        let borrowed: Vec<_> = pieces.iter().map(|(source, bytes)| (*source, &bytes[..])).collect();
        let (mut from_cri, mut from_ndjson) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for event in events(&borrowed, options) {
            let mut json = Vec::new();
            ndjson::write_event(&event, &mut json);
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let LineEvent::Line(line) = event else {
                prop_assert_eq!(&json["end"]["reason"], "eof");
                continue;
            };
            let mut out = Vec::new();
            cri::write_line(&line, &mut out);
            let mut fields = out.splitn(4, |byte| *byte == b' ');
            prop_assert_eq!(fields.next().unwrap().len(), 30);
            prop_assert_eq!(fields.next().unwrap(), line.source.as_str().as_bytes());
            let (tag, content) = (fields.next().unwrap(), fields.next().unwrap());
            let content = &content[..content.len() - usize::from(tag == b"P")];
            from_cri[line.source as usize].extend_from_slice(content);

            let text = match &json["text"] {
                serde_json::Value::String(text) => text.clone().into_bytes(),
                _ => unbase64(json["base64"].as_str().unwrap()),
            };
            prop_assert_eq!(&json["offset"], line.offset);
            from_ndjson[line.source as usize].extend(text);
            if json["ends"] == true {
                from_ndjson[line.source as usize].push(b'\n');
            }

            let mut docker = Vec::new();
            json_file::write_line(&line, &mut docker);
            let docker: serde_json::Value = serde_json::from_slice(&docker).unwrap();
            let mut log = String::from_utf8_lossy(&line.data).into_owned();
            log.extend(line.ends.then_some('\n'));
            prop_assert_eq!(&docker["log"], &log);
            prop_assert_eq!(&docker["stream"], line.source.as_str());
        }
        for source in Source::ALL {
            prop_assert_eq!(&from_cri[source as usize], &of(&pieces, source));
            prop_assert_eq!(&from_ndjson[source as usize], &of(&pieces, source));
        }
    }
}

/// Standard base64, decoded the slow way.
fn unbase64(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u8> = text.chars().filter_map(|c| ALPHABET.find(c)).map(|digit| digit as u8).collect();
    let bits: Vec<u8> = digits.iter().flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1)).collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
}
