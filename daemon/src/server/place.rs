//! Where in a stream a client begins, as its query says.

use std::time::{Duration, SystemTime};

use actix_web::HttpRequest;
use orangery::runtime::spec::size::parse_duration;
use orangery::stream::From;
use orangery::{Cursor, Source, Sources};
use schemars::JsonSchema;
use serde::Deserialize;

use super::ask::{flag, parameter, query};
use super::failed::Failed;

/// The query of every stream of a process. `from`, `tail`, `since`, `offset` and `cursor` exclude each other.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    /// `stdout`, `stderr` or `both` (default).
    stream: Option<String>,
    /// `start` (default) or `now`.
    from: Option<String>,
    /// The last so many lines of each stream.
    tail: Option<String>,
    /// What was written so long ago (5m) or later; or since this many milliseconds after 1970.
    since: Option<String>,
    /// From this byte of stdout, or of the chosen stream.
    offset: Option<String>,
    /// From this place, as an earlier answer told it; the header Last-Event-ID says the same.
    cursor: Option<String>,
    /// `false`: end with what is there now.
    follow: Option<String>,
    /// `true`: tell when each piece was read (`at_ms`).
    times: Option<String>,
    /// `true`: write the standard input too (attach).
    stdin: Option<String>,
    /// Lines of the terminal (attach).
    rows: Option<String>,
    /// Characters in a line of it (attach).
    columns: Option<String>,
}

/// Which query it is: some parameters are for one kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Output,
    Logs,
    Attach,
}

/// What a client wants of a stream.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) sources: Sources,
    pub(super) from: Begin,
    pub(super) follow: bool,
    pub(super) times: bool,
    pub(super) stdin: bool,
    pub(super) size: Option<(u16, u16)>,
}

/// Where it begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    At(Cursor),
    From(From),
}

/// A cursor of the query, or of the header of a client that was cut off.
///
/// # Errors
/// It is none.
pub(super) fn cursor(request: &HttpRequest, said: Option<&str>) -> Result<Option<Cursor>, Failed> {
    let header = request.headers().get("Last-Event-ID").map(|header| header.to_str().unwrap_or("\u{fffd}"));
    // A browser that never had an id sends an empty one.
    match said.or(header).filter(|text| !text.is_empty()) {
        Some(text) => Ok(Some(text.parse::<Cursor>()?)),
        None => Ok(None),
    }
}

impl Wanted {
    /// # Errors
    /// The query is refused, by parameter.
    pub(super) fn of(request: &HttpRequest, kind: Kind) -> Result<Self, Failed> {
        let said: StreamQuery = query(request, &[])?;
        said.fits(kind)?;
        let sources = match said.stream.as_deref() {
            None | Some("both") => Sources::Both,
            Some("stdout") => Sources::Stdout,
            Some("stderr") => Sources::Stderr,
            Some(other) => return Err(parameter("stream", format!("{other:?} is not stdout, stderr or both"))),
        };
        let from = match cursor(request, said.cursor.as_deref())? {
            Some(cursor) => Begin::At(cursor),
            None => Begin::From(said.from(sources)?),
        };
        let number = |field, text: &str| {
            let number = text.parse::<u16>().ok().filter(|number| *number > 0);
            number.ok_or_else(|| parameter(field, format!("{text:?} is not a number from 1 to 65535")))
        };
        let size = match (said.rows.as_deref(), said.columns.as_deref()) {
            (None, None) => None,
            (Some(rows), Some(columns)) => Some((number("rows", rows)?, number("columns", columns)?)),
            (None, _) => return Err(parameter("rows", "columns needs rows beside it")),
            (_, None) => return Err(parameter("columns", "rows needs columns beside it")),
        };
        Ok(Self {
            sources,
            from,
            follow: flag("follow", said.follow.as_deref(), true)?,
            times: flag("times", said.times.as_deref(), false)?,
            stdin: flag("stdin", said.stdin.as_deref(), false)?,
            size,
        })
    }
}

impl StreamQuery {
    fn fits(&self, kind: Kind) -> Result<(), Failed> {
        let alien = [
            ("times", &self.times, kind != Kind::Logs),
            ("stdin", &self.stdin, kind != Kind::Attach),
            ("rows", &self.rows, kind != Kind::Attach),
            ("columns", &self.columns, kind != Kind::Attach),
            ("follow", &self.follow, kind == Kind::Attach),
        ];
        match alien.into_iter().find(|(_, said, alien)| *alien && said.is_some()) {
            Some((field, ..)) => Err(parameter(field, "this stream has no such parameter")),
            None => self.one_place(),
        }
    }

    fn one_place(&self) -> Result<(), Failed> {
        let places = [
            ("cursor", &self.cursor),
            ("from", &self.from),
            ("tail", &self.tail),
            ("since", &self.since),
            ("offset", &self.offset),
        ];
        let mut said = places.into_iter().filter(|(_, said)| said.is_some());
        match (said.next(), said.next()) {
            (Some((one, _)), Some((other, _))) => Err(parameter(other, format!("{one} says where to begin already"))),
            _ => Ok(()),
        }
    }

    fn from(&self, sources: Sources) -> Result<From, Failed> {
        let number = |field, text: &str| {
            text.parse::<u64>().map_err(|_| parameter(field, format!("{text:?} is not a whole number")))
        };
        if let Some(text) = &self.tail {
            return Ok(From::TailLines(number("tail", text)?));
        }
        if let Some(text) = &self.offset {
            let source = if sources == Sources::Stderr { Source::Stderr } else { Source::Stdout };
            return Ok(From::Offset { source, offset: number("offset", text)? });
        }
        if let Some(text) = &self.since {
            return since(text).map(From::Time).map_err(|why| parameter("since", why));
        }
        match self.from.as_deref() {
            None | Some("start") => Ok(From::Start),
            Some("now") => Ok(From::Now),
            Some(other) => Err(parameter("from", format!("{other:?} is neither start nor now"))),
        }
    }
}

/// `5m` ago; or a moment, which is a number that no span of time is: milliseconds since 1970.
fn since(text: &str) -> Result<SystemTime, String> {
    let early = || format!("{text:?} is before all time");
    match text.parse::<u64>() {
        Ok(moment) if moment > 10_000_000_000 => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(moment)).ok_or_else(early)
        }
        _ => SystemTime::now().checked_sub(parse_duration(text)?).ok_or_else(early),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn of(query: &str, kind: Kind) -> Result<Wanted, String> {
        let request = TestRequest::with_uri(&format!("/x?{query}")).to_http_request();
        Wanted::of(&request, kind).map_err(|failed| failed.0.field.unwrap_or_default())
    }

    #[test]
    fn where_it_begins() {
        let from = |query: &str| match of(query, Kind::Logs).unwrap().from {
            Begin::From(from) => from,
            Begin::At(cursor) => panic!("{cursor}"),
        };
        assert_eq!(from(""), From::Start);
        assert_eq!(from("from=now"), From::Now);
        assert_eq!(from("tail=3&follow=false"), From::TailLines(3));
        assert_eq!(from("stream=stderr&offset=7"), From::Offset { source: Source::Stderr, offset: 7 });
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000);
        assert_eq!(from("since=1700000000000"), From::Time(moment));
        assert!(matches!(from("since=5m"), From::Time(time) if time < SystemTime::now()));
        assert!(of("rows=3&columns=4&stdin=true", Kind::Attach).is_ok_and(|wanted| wanted.size == Some((3, 4))));
    }

    #[test]
    fn what_is_refused_is_named() {
        for (query, kind, field) in [
            ("from=later", Kind::Logs, "from"),
            ("from=now&tail=3", Kind::Logs, "tail"),
            ("cursor=x&from=start", Kind::Logs, "from"),
            ("cursor=x", Kind::Logs, "cursor"),
            ("stream=stdin", Kind::Logs, "stream"),
            ("tail=-1", Kind::Output, "tail"),
            ("since=yesterday", Kind::Output, "since"),
            ("times=true", Kind::Output, "times"),
            ("stdin=true", Kind::Logs, "stdin"),
            ("follow=false", Kind::Attach, "follow"),
            ("rows=3", Kind::Attach, "columns"),
            ("rows=0&columns=3", Kind::Attach, "rows"),
            ("follow=maybe", Kind::Logs, "follow"),
            ("colour=red", Kind::Logs, "colour"),
            ("tail=1&tail=2", Kind::Logs, "tail"),
        ] {
            assert_eq!(of(query, kind).err().as_deref(), Some(field), "{query}");
        }
    }
}
