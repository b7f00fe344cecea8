//! `docs/states.md` is what the tables say: drawn from the code, and compared with the file. With `ORANGERY_BLESS` in the
//! environment the file is written instead.

use std::fmt::Write as _;
use std::time::Duration;

use crate::container::state as container;
use crate::ladder::StopLadder;
use crate::process::state as process;
use crate::restart::{Decision, GiveUp};
use crate::service::state as service;

/// Cells of a table and the numbered reasons beneath it.
struct Page {
    text: String,
    reasons: Vec<&'static str>,
}

impl Page {
    fn reason(&mut self, word: &str, why: &'static str) -> String {
        let known = self.reasons.iter().position(|reason| *reason == why);
        let number = known.unwrap_or_else(|| {
            self.reasons.push(why);
            self.reasons.len() - 1
        });
        format!("{word} ({})", number + 1)
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        for cell in cells {
            let _ = write!(self.text, "| {cell} ");
        }
        self.text.push_str("|\n");
    }

    fn head(&mut self, cells: Vec<String>) {
        let count = cells.len();
        self.row(cells);
        self.text.push_str(&"|---".repeat(count));
        self.text.push_str("|\n");
    }

    fn reasons(&mut self) {
        self.text.push('\n');
        for (index, why) in std::mem::take(&mut self.reasons).into_iter().enumerate() {
            let _ = writeln!(self.text, "{}. {why}", index + 1);
        }
    }
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push(' ');
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// The name of the event, as `container/tell.rs` makes it.
fn event(news: container::News) -> &'static str {
    use container::News;
    match news {
        News::Created => "container_created",
        News::Started => "container_started",
        News::Failed => "container_failed",
        News::Paused => "container_paused",
        News::Resumed => "container_resumed",
        News::Updated => "container_updated",
        News::Exited => "container_exited",
        News::Unkillable => "container_unkillable",
        News::Kept => "container_kept",
        News::Removed => "container_removed",
    }
}

fn containers(page: &mut Page) {
    use container::{Input, State, Verdict, news, next};
    let states = State::ALL.iter().map(|state| snake(&format!("{state:?}")));
    page.head(["input".to_owned()].into_iter().chain(states).chain(["event when it is done".to_owned()]).collect());
    for input in Input::ALL {
        let mut cells = vec![snake(&format!("{input:?}"))];
        for state in State::ALL {
            let (after, verdict) = next(state, input);
            cells.push(match verdict {
                Verdict::Go if after != state => format!("**{}**", snake(&format!("{after:?}"))),
                Verdict::Go => "done".into(),
                Verdict::Already => "already so".into(),
                Verdict::Ignore(why) => page.reason("ignored", why),
                Verdict::Refuse(why) => page.reason("refused", why),
            });
        }
        cells.push(news(input, Verdict::Go).map_or(String::new(), |news| format!("`{}`", event(news))));
        page.row(cells);
    }
    page.reasons();
}

fn processes(page: &mut Page) {
    use process::{Effect, Input, State, next};
    let seconds = Duration::from_secs;
    let stop = |now, ladder| Input::Stop { now, ladder, before: None };
    let one = |grace| StopLadder::from((15, grace));
    let long = StopLadder::default().then(2, seconds(5));
    let stopping = next(State::Running, stop(seconds(0), long.clone()));
    let hook = Input::Stop { now: seconds(0), ladder: long, before: Some(seconds(5)) };
    let preparing = next(State::Running, hook.clone());
    let states = [State::Running, preparing.0, stopping.0, State::Exited];
    let name = |state: &State| match state {
        State::Running => "running",
        State::Preparing { .. } => "preparing",
        State::Stopping(_) => "stopping",
        State::Exited => "exited",
    };
    let inputs = [
        ("signal", Input::Signal(10), ""),
        ("stop", stop(seconds(0), one(seconds(60))), "`container_stopping`, `process_stopping`"),
        ("stop, with a pre-stop command", hook, "`container_stopping`"),
        ("the command has ended", Input::Prepared { now: seconds(3) }, "`hook_ended`"),
        ("stop, through sooner", stop(seconds(1), one(seconds(1))), ""),
        ("stop without a signal", stop(seconds(1), StopLadder::new()), "as a kill"),
        ("a grace is over", Input::Due { now: seconds(10) }, ""),
        ("all time is over", Input::Due { now: seconds(20) }, "`container_stopping`, `process_stopping`, escalated"),
        ("exited", Input::Exited, "`process_exited`, at once; later `process_ended`"),
    ];
    page.head(["input", "running", "preparing", "stopping", "exited", "event"].map(str::to_owned).to_vec());
    for (label, input, event) in inputs {
        let mut cells = vec![label.to_owned()];
        for state in &states {
            let (after, effect) = next(state.clone(), input.clone());
            let what = match effect {
                Effect::Send(_) => "it is sent".into(),
                Effect::Prepare { .. } => "the command is run, the timer runs".into(),
                Effect::Descend { .. } => "the signal and CONT are sent, the timer runs".into(),
                Effect::Shorten(_) => "the timer is shortened".into(),
                Effect::Kill => "the kill is sent".into(),
                Effect::AnswerAll => "who waits is answered".into(),
                Effect::Ignore(why) => page.reason("ignored", why),
                Effect::Refuse(why) => page.reason("refused", why),
            };
            cells.push(if name(&after) == name(state) { what } else { format!("**{}**: {what}", name(&after)) });
        }
        cells.push(event.to_owned());
        page.row(cells);
    }
    page.reasons();
}

fn services(page: &mut Page) {
    let serde = |state: service::ServiceState| serde_json::to_value(state).unwrap().as_str().unwrap().replace('_', " ");
    page.head(std::iter::once("input".to_owned()).chain(service::STATES.map(serde)).collect());
    let inputs = [
        ("start", service::Input::Start),
        ("begun", service::Input::Begun),
        ("started", service::Input::Started),
        ("died: restart", service::Input::Died(Decision::Restart { after: Duration::ZERO })),
        ("died: done", service::Input::Died(Decision::Done)),
        ("died: escalate", service::Input::Died(Decision::Escalate(GiveUp::WindowSpent))),
        ("delay over", service::Input::DelayOver),
        ("stop", service::Input::Stop),
    ];
    for (input, value) in inputs {
        let cells = service::STATES.map(|state| {
            let (after, effect) = service::next(state, value);
            let what = match effect {
                service::Effect::Create => "the next incarnation is made".into(),
                service::Effect::Wait(_) => "the delay runs".into(),
                service::Effect::End => "the incarnation is ended".into(),
                service::Effect::Abort => "the incarnation is given up".into(),
                service::Effect::Watch => "it is watched".into(),
                service::Effect::Settled | service::Effect::Runs => "who waits is answered".into(),
                service::Effect::Ignore(why) => page.reason("ignored", why),
                service::Effect::Refuse(why) => page.reason("refused", why),
            };
            if after == state { what } else { format!("**{}**: {what}", serde(after)) }
        });
        page.row(std::iter::once(input.to_owned()).chain(cells));
    }
    page.reasons();
}

fn drawn() -> String {
    let mut page = Page { text: String::new(), reasons: Vec::new() };
    page.text.push_str(
        "# States and transitions\n\n\
         Drawn from the `state.rs` of `supervisor/src/container`, `process` and `service`; a test of the library compares.\n\
         A cell is what an input does in a state: the state that follows (bold), or why nothing does.\n\n\
         ## A container\n\n",
    );
    containers(&mut page);
    page.text.push_str(
        "\n*Creating* is told by no event of its own: the first one is `container_created` or `container_failed`. The states\n\
         and their events change under one lock (`ContainerSlot::step`), so that no transition is without its event.\n\n\
         ## A process\n\n",
    );
    processes(&mut page);
    page.text.push_str(
        "\n`container_stopping` is the main process's, `process_stopping` a further one's; both come also from a kill, a limit or\n\
         the loss of the last handle, which pass no mailbox (`process/tell.rs`).\n\n\
         ## A service\n\n\
         *Died* comes with what its [restart](supervision.md) makes of the end. Each change is a `service_changed`.\n\n",
    );
    services(&mut page);
    page.text
}

#[test]
fn the_documented_tables_are_those_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/states.md");
    let drawn = drawn();
    if std::env::var_os("ORANGERY_BLESS").is_some() {
        std::fs::write(path, &drawn).unwrap();
    }
    let documented = std::fs::read_to_string(path).unwrap();
    assert!(documented == drawn, "run this test with ORANGERY_BLESS=1, and look at what has changed in docs/states.md");
}
