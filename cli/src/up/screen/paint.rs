//! A service's line behind its name. Pure, but for what our streams are.

use std::io::{self, IsTerminal as _};

use orangery::Source;
use orangery::stream::view::AnsiStripper;

use crate::up::build::Unit;

/// A label is not made wider than this.
const WIDEST: usize = 24;

/// Cyan, yellow, green, magenta, blue, and the bright ones.
const COLOURS: [u8; 10] = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94];

/// See the file's head.
#[derive(Debug)]
pub(super) struct Painter {
    labels: Vec<String>,
    width: usize,
    stdout: Sheet,
    stderr: Sheet,
}

/// What a stream of ours is.
#[derive(Clone, Copy, Debug)]
struct Sheet {
    /// What moves its cursor would spoil what stands there.
    terminal: bool,
    colours: bool,
}

impl Painter {
    pub(super) fn new(units: &[Unit]) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let sheet = |terminal: bool| Sheet { terminal, colours: terminal && !plain };
        let labels: Vec<String> = units.iter().map(|unit| unit.label.clone()).collect();
        let (stdout, stderr) = (sheet(io::stdout().is_terminal()), sheet(io::stderr().is_terminal()));
        let width = labels.iter().map(String::len).max().unwrap_or(0).min(WIDEST);
        Self { labels, width, stdout, stderr }
    }

    pub(super) fn label(&self, unit: usize) -> &str {
        self.labels.get(unit).map_or("", String::as_str)
    }

    /// One line, with its newline.
    pub(super) fn line(&self, unit: usize, source: Source, data: &[u8]) -> Vec<u8> {
        let sheet = if source == Source::Stdout { self.stdout } else { self.stderr };
        let (label, width) = (self.label(unit), self.width);
        let prefix = match (sheet.colours, COLOURS.get(unit % COLOURS.len())) {
            (true, Some(colour)) => format!("\x1b[{colour}m{label:width$} |\x1b[0m "),
            _ => format!("{label:width$} | "),
        };
        let mut line = prefix.into_bytes();
        if sheet.terminal {
            let begin = line.len();
            AnsiStripper::new().strip(data, &mut line);
            let text = line.iter_mut().skip(begin);
            text.filter(|byte| byte.is_ascii_control() && **byte != b'\t').for_each(|byte| *byte = b' ');
        } else {
            line.extend_from_slice(data);
        }
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painter(terminal: bool, colours: bool) -> Painter {
        let sheet = Sheet { terminal, colours };
        Painter { labels: vec!["db".into(), "workers.a".into()], width: 9, stdout: sheet, stderr: sheet }
    }

    #[test]
    fn lines_stand_behind_their_names() {
        let plain = painter(false, false);
        assert_eq!(plain.line(0, Source::Stdout, b"a\x1b[1mb\xff"), b"db        | a\x1b[1mb\xff\n");
        assert_eq!(plain.line(1, Source::Stderr, b""), b"workers.a | \n");
        let terminal = painter(true, true);
        let line = terminal.line(1, Source::Stdout, b"a\x1b[2J\x1b[31mb\rc\td\x07");
        assert_eq!(line, b"\x1b[33mworkers.a |\x1b[0m ab c\td \n");
        assert_eq!(painter(true, false).line(0, Source::Stdout, b"x"), b"db        | x\n");
    }
}
