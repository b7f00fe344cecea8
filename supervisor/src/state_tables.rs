//! `docs/states.md` is what the tables say: drawn from the code, and compared with the file. With `ORANGERY_BLESS` in the
//! environment the file is written instead.

use std::fmt::Write as _;
use std::time::Duration;

use crate::container::state as container;
use crate::ladder::StopLadder;
use crate::pool::state as pool;
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

fn pools(page: &mut Page) {
    use pool::{Input, PoolState, Sizes, Tally};
    let sizes = Sizes { idle: 2, most: 6, waiting: 2 };
    let situations = [
        ("open, two are ready", Tally { idle: 2, leased: 1, leaving: 1, ..Tally::default() }),
        (
            "open, one is made, one caller waits",
            Tally { making: 3, leased: 1, leaving: 1, waiting: 1, ..Tally::default() },
        ),
        ("back off, one is made, one caller waits", {
            Tally { state: PoolState::BackOff, making: 1, leased: 2, leaving: 1, waiting: 1, ..Tally::default() }
        }),
        ("closed", Tally { state: PoolState::Closed, making: 1, leased: 1, leaving: 1, ..Tally::default() }),
    ];
    let inputs = [
        ("take, and wait", Input::Take { waits: true }),
        ("take", Input::Take { waits: false }),
        ("a caller leaves", Input::Left),
        ("made", Input::Made),
        ("failed", Input::Failed { hopeless: false }),
        ("failed, as all would", Input::Failed { hopeless: true }),
        ("a ready one is lost", Input::Lost { young: false }),
        ("a young ready one is lost", Input::Lost { young: true }),
        ("a ready one is stable", Input::Stable),
        ("back, untouched", Input::Returned),
        ("back, to be removed", Input::Released),
        ("removed", Input::Gone),
        ("delay over", Input::DelayOver),
        ("close", Input::Close),
    ];
    page.head(std::iter::once("input").chain(situations.map(|(name, _)| name)).map(str::to_owned).collect());
    for (name, input) in inputs {
        let cells = situations.map(|(_, before)| pool_cell(page, before, input, &sizes));
        page.row(std::iter::once(name.to_owned()).chain(cells));
    }
    page.reasons();
}

fn pool_cell(page: &mut Page, before: pool::Tally, input: pool::Input, sizes: &pool::Sizes) -> String {
    use pool::{Effect, Refusal};
    let (after, effect, make) = pool::next(before, input, sizes);
    let mut what = match effect {
        Effect::Lease if matches!(input, pool::Input::Take { .. }) => "one is given".into(),
        Effect::Lease => "it is given to who waits".into(),
        Effect::Queue => "the caller waits".into(),
        Effect::Keep => "it is ready".into(),
        Effect::Discard { wait: None } => "it is removed".into(),
        Effect::Discard { wait: Some(_) } => "it is removed, the delay runs".into(),
        Effect::Fail { tell, wait } => {
            let told = if tell > 0 { "who waits is told" } else { "counted" };
            format!("{told}{}", if wait.is_some() { ", the delay runs" } else { "" })
        }
        Effect::Close => "ready ones are removed, who waits is told".into(),
        Effect::Count => "counted".into(),
        Effect::Ignore(why) => page.reason("ignored", why),
        Effect::Refuse(why) => page.reason(
            "refused",
            match why {
                Refusal::Waiting => "so many callers wait already",
                Refusal::Most => "as many exist as may",
                Refusal::Idle => "none is ready",
                Refusal::Hopeless => "none can be made",
                Refusal::Closed => "it is closed",
            },
        ),
    };
    if make > 0 {
        let _ = write!(what, "; {make} begun");
    }
    if after.state == before.state {
        return what;
    }
    let state = serde_json::to_value(after.state).unwrap().as_str().unwrap().replace('_', " ");
    format!("**{state}**: {what}")
}

fn drawn() -> String {
    let mut page = Page { text: String::new(), reasons: Vec::new() };
    page.text.push_str(
        "# States and transitions\n\n\
         Drawn from the `state.rs` of `supervisor/src/container`, `process`, `service` and `pool`; a test of the library compares.\n\
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
    page.text.push_str(
        "\nA group as a whole has the same states and answers, with its members for the incarnation; each change is a\n\
         `group_changed`.\n\n\
         ## A pool\n\n\
         It counts, so that a state is one of many numbers of each kind; here four of them stand for all, of a pool with two to be\n\
         ready and six at most. What is missing is begun at each step. Nothing is told of the pool itself but `pool_back_off`;\n\
         of its sandboxes `pool_ready`, `pool_leased` and `pool_discarded`.\n\n",
    );
    pools(&mut page);
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
