//! `list`: all containers below `--root`.

use crate::args::Format;
use crate::container::Container;
use crate::failure::Failure;
use crate::place::Place;
use crate::state::{State, print, say};

/// `list`, whole. One that is being made, or removed, is left out.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn list(place: &Place, quiet: bool, format: Format) -> Result<(), Failure> {
    let containers: Vec<Container> = place.all()?.into_iter().filter_map(|room| Container::of(room).ok()).collect();
    if quiet {
        let names: String = containers.iter().map(|container| format!("{}\n", container.room.id())).collect();
        return say(&names);
    }
    let states: Vec<State<'_>> = containers.iter().map(State::of).collect::<Result<_, _>>()?;
    match format {
        Format::Json => print(&serde_json::to_string(&states)),
        Format::Table => say(&table(&states, &containers)),
    }
}

fn table(states: &[State<'_>], containers: &[Container]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = states.iter().zip(containers).map(|(state, container)| {
        let bundle = state.bundle.display().to_string();
        let (pid, status) = (state.pid.to_string(), state.status.to_owned());
        [container.room.id().to_owned(), pid, status, bundle, state.created.to_owned(), state.owner.clone()]
    });
    aligned(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

/// Columns as wide as their widest word and three more, twelve at least; the last as it is.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row.get(column).map_or(0, |word| word.chars().count())).max();
        (widest.unwrap_or(0) + 3).max(12)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let words = row.iter().zip(&widths).enumerate();
        let words = words.map(|(at, (word, width))| if at + 1 == N { word.clone() } else { format!("{word:width$}") });
        words.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}
