//! One line of state for each service, at the bottom of a terminal. Pure, but for the terminal's size.

use rustix::stdio::stderr;
use rustix::termios::tcgetwinsize;

use crate::up::build::Unit;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Live {
    labels: Vec<String>,
    width: usize,
    states: Vec<String>,
    /// Lines that stand there now.
    drawn: usize,
}

impl Live {
    pub(super) fn new(units: &[Unit]) -> Self {
        let labels: Vec<String> = units.iter().map(|unit| unit.label.clone()).collect();
        let waits = |unit: &Unit| match unit.after.as_slice() {
            [] => "is to start".to_owned(),
            after => format!("waits for {}", after.join(", ")),
        };
        let width = labels.iter().map(String::len).max().unwrap_or(0);
        Self { states: units.iter().map(waits).collect(), labels, width, drawn: 0 }
    }

    pub(super) fn set(&mut self, unit: usize, state: String) {
        if let Some(place) = self.states.get_mut(unit) {
            *place = state;
        }
    }

    /// Take away what stands there.
    pub(super) fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }

    pub(super) fn draw(&mut self) -> String {
        let size = tcgetwinsize(stderr()).map(|size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        // A terminal without a size says 0.
        let (rows, columns) = size.ok().filter(|size| size.0 > 0 && size.1 > 0).unwrap_or((24, 80));
        let text = self.lines(rows, columns);
        self.drawn = text.lines().count();
        text
    }

    /// As many as there is room for, none of which is wrapped.
    fn lines(&self, rows: usize, columns: usize) -> String {
        let most = rows.saturating_sub(2).max(1);
        let (all, width) = (self.labels.len(), self.width);
        let shown = if all <= most { all } else { most - 1 };
        let states = self.labels.iter().zip(&self.states).take(shown);
        let lines = states.map(|(label, state)| format!("  {label:width$}  {state}"));
        let rest = (shown < all).then(|| format!("  and {} more", all - shown));
        let cut = |line: String| line.chars().take(columns.saturating_sub(1)).collect::<String>() + "\n";
        lines.chain(rest).map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_lines_as_there_is_room_for() {
        let unit = |label: &str, after: &[&str]| Unit {
            label: label.into(),
            id: format!("x.{label}"),
            after: after.iter().map(|name| (*name).to_owned()).collect(),
            once: true,
        };
        let mut live = Live::new(&[unit("db", &[]), unit("api", &["db"]), unit("web", &["api", "db"])]);
        assert_eq!(live.lines(24, 80), "  db   is to start\n  api  waits for db\n  web  waits for api, db\n");
        live.set(0, "runs".into());
        assert_eq!(live.lines(4, 13), "  db   runs\n  and 2 more\n");
        assert_eq!(live.erase(), "");
        live.drawn = 3;
        assert_eq!((live.erase().as_str(), live.erase().as_str()), ("\x1b[3A\r\x1b[J", ""));
    }
}
