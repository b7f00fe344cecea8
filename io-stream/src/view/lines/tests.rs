//! Lines alone: ends, parts, gaps, and that cuts change nothing.

use proptest::prelude::*;

use super::*;
use crate::chunk::Source::{Stderr, Stdout};

fn piece(source: Source, offset: u64, data: &[u8]) -> Piece {
    Piece { source, offset, wall: None, data: Bytes::copy_from_slice(data) }
}

fn options(max_len: usize, carriage_return: CarriageReturn) -> LineOptions {
    LineOptions { max_len, carriage_return, idle: None }
}

/// All lines of `parts`, and what is left at the end.
fn all(options: LineOptions, parts: &[&[u8]]) -> Vec<Line> {
    let mut lines = Lines::new(options);
    let mut found = Vec::new();
    let mut offset = 0;
    for part in parts {
        let mut piece = piece(Stdout, offset, part);
        offset += part.len() as u64;
        found.extend(std::iter::from_fn(|| lines.next_from(&mut piece)));
    }
    found.extend(std::iter::from_fn(|| lines.flush()));
    found
}

fn texts(lines: &[Line]) -> Vec<(&[u8], bool, bool)> {
    lines.iter().map(|line| (&line.data[..], line.begins, line.ends)).collect()
}

#[test]
fn lines_cross_pieces() {
    let lines = all(LineOptions::default(), &[b"one\ntw", b"", b"o\n\nthr", b"ee"]);
    assert_eq!(
        texts(&lines),
        [(&b"one"[..], true, true), (b"two", true, true), (b"", true, true), (b"three", true, false)]
    );
    let places: Vec<_> = lines.iter().map(|line| (line.line, line.offset, line.end)).collect();
    assert_eq!(places, [(0, 0, 4), (4, 4, 8), (8, 8, 9), (9, 9, 14)]);
}

#[test]
fn a_line_inside_a_piece_is_not_copied() {
    let mut piece = piece(Stdout, 0, b"one\ntwo\n");
    let place = piece.data.as_ptr();
    let mut lines = Lines::new(LineOptions::default());
    assert_eq!(lines.next_from(&mut piece).unwrap().data.as_ptr(), place);
    assert_eq!(lines.next_from(&mut piece).unwrap().data.as_ptr(), place.wrapping_add(4));
}

#[test]
fn a_carriage_return_goes_or_stays() {
    let text: &[u8] = b"a\r\nb\rc\n\r\n";
    let strip = all(options(0, CarriageReturn::Strip), &[text]);
    assert_eq!(strip.iter().map(|line| &line.data[..]).collect::<Vec<_>>(), [&b"a"[..], b"b\rc", b""]);
    assert_eq!(strip[0].end, 3);
    let keep = all(options(0, CarriageReturn::Keep), &[text]);
    assert_eq!(keep.iter().map(|line| &line.data[..]).collect::<Vec<_>>(), [&b"a\r"[..], b"b\rc", b"\r"]);
}

#[test]
fn a_long_line_comes_in_parts_of_one_line() {
    let lines = all(options(5, CarriageReturn::Strip), &[b"0123456789ab\nxxxxx\n"]);
    assert_eq!(
        texts(&lines),
        [(&b"01234"[..], true, false), (b"56789", false, false), (b"ab", false, true), (b"xxxxx", true, true)]
    );
    assert!(lines[..3].iter().all(|line| line.line == 0));
}

#[test]
fn characters_stay_whole_in_parts() {
    let text = "aaaé€𝄞bbbb𝄞𝄞";
    for max in 4..9 {
        let lines = all(options(max, CarriageReturn::Strip), &[text.as_bytes()]);
        assert!(lines.iter().all(|line| line.utf8 && line.data.len() <= max), "{lines:?}");
        assert_eq!(lines.iter().flat_map(|line| line.data.to_vec()).collect::<Vec<_>>(), text.as_bytes());
    }
    // What is no character is kept and flagged.
    let lines = all(options(4, CarriageReturn::Strip), &[b"\xff\xfe\x80\x80\x80\x80\x80"]);
    assert_eq!(lines.iter().map(|line| line.data.len()).sum::<usize>(), 7);
    assert!(lines.iter().all(|line| !line.utf8));
}

#[test]
fn a_prompt_is_shown_and_its_rest_follows() {
    let mut lines = Lines::new(LineOptions::default());
    assert_eq!(lines.next_from(&mut piece(Stdout, 0, b"name: ")), None);
    assert!(lines.has_partial());
    let prompt = lines.flush().unwrap();
    assert_eq!((&prompt.data[..], prompt.begins, prompt.ends), (&b"name: "[..], true, false));
    assert!(!lines.has_partial() && lines.flush().is_none());
    let rest = lines.next_from(&mut piece(Stdout, 6, b"\n")).unwrap();
    assert_eq!((&rest.data[..], rest.begins, rest.ends, rest.line, rest.end), (&b""[..], false, true, 0, 7));
}

#[test]
fn a_gap_is_never_joined_over() {
    let mut lines = Lines::new(LineOptions::default());
    assert_eq!(lines.next_from(&mut piece(Stdout, 0, b"left")), None);
    assert_eq!(lines.next_from(&mut piece(Stderr, 0, b"other")), None);
    assert_eq!(&lines.cut(Stdout).unwrap().data[..], b"left");
    let after = lines.next_from(&mut piece(Stdout, 50, b"right\n")).unwrap();
    assert_eq!((after.begins, after.ends, after.line), (false, true, 50));
    let other = lines.next_from(&mut piece(Stderr, 5, b"\n")).unwrap();
    assert_eq!((&other.data[..], other.is_whole()), (&b"other"[..], true));
    let next = lines.next_from(&mut piece(Stdout, 56, b"next\n")).unwrap();
    assert!(next.is_whole());
}

#[test]
fn all_parts_carry_the_time_of_the_first() {
    let time = Some(SystemTime::UNIX_EPOCH);
    let mut lines = Lines::new(options(4, CarriageReturn::Strip));
    let mut first = Piece { wall: time, ..piece(Stdout, 0, b"abcd") };
    assert_eq!(lines.next_from(&mut first), None);
    let mut second = Piece { wall: Some(SystemTime::now()), ..piece(Stdout, 4, b"ef\n") };
    assert_eq!(lines.next_from(&mut second).unwrap().wall, time);
    assert_eq!(lines.next_from(&mut second).unwrap().wall, time);
}

proptest! {
    #[test]
    fn cuts_change_nothing_and_lose_nothing(
        bytes in prop::collection::vec(
            prop_oneof![Just(b'\n'), Just(b'\r'), Just(0xc3), Just(0xa9), Just(b'a'), any::<u8>()], 0..80),
        cuts in prop::collection::vec(0..80_usize, 0..6),
        max_len in prop_oneof![Just(0), 4..12_usize],
        keep in any::<bool>(),
    ) {
        let carriage_return = if keep { CarriageReturn::Keep } else { CarriageReturn::Strip };
        let options = options(max_len, carriage_return);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let whole = all(options, &[&bytes]);
        prop_assert_eq!(&whole, &all(options, &parts));
        let mut end = 0;
        for line in &whole {
            prop_assert_eq!(line.offset, end);
            prop_assert_eq!(&line.data[..], &bytes[end as usize..end as usize + line.data.len()]);
            prop_assert!(max_len == 0 || line.data.len() <= max_len);
            end = line.end;
        }
        prop_assert_eq!(end, bytes.len() as u64);
    }
}
