//! One feed of fifty containers, one of which floods.

use std::collections::BTreeMap;

use orangery::events::Kind;
use orangery::follow::{FollowOptions, Item};
use orangery::{ContainerHandle, EventFilter, Sandbox, Stdin};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::play;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial!(fifty_are_followed_while_one_floods).long()]
}

const QUIET: usize = 49;
const LINES: usize = 20;

/// Each says a line for each that it hears.
async fn quiet(supervisor: &orangery::Supervisor, n: usize) -> ContainerHandle {
    let sandbox = Sandbox::builder().id(format!("quiet-{n}")).label("of", "a").build().unwrap();
    let command = supervisor.command("sh").arg("-c").arg("while read line; do echo $line; done").sandbox(&sandbox);
    command.stdin(Stdin::Piped).spawn().await.unwrap()
}

/// What came of one container.
#[derive(Debug, Default)]
struct Heard {
    at: u64,
    missed: u64,
    lines: usize,
    started: bool,
    closed: bool,
    over: bool,
}

fn fifty_are_followed_while_one_floods(scene: &Scene) {
    play(scene, async |supervisor| {
        let filter = EventFilter::new().label("of", "a");
        let mut follow = supervisor.follow(filter.clone(), FollowOptions::default());
        let sandbox = Sandbox::builder().id("flood").label("of", "a").build().unwrap();
        let flood = supervisor.command("yes").sandbox(&sandbox).spawn().await.unwrap();
        let mut handles = Vec::new();
        for n in 0..QUIET {
            handles.push(quiet(supervisor, n).await);
        }
        let mut writers: Vec<_> = handles.iter().map(|handle| handle.process().stdin().unwrap()).collect();
        let mut heard: BTreeMap<String, Heard> = BTreeMap::new();
        let (mut said, mut cuts, mut since, mut most) = (0, 0, 0, 0);
        while heard.values().filter(|heard| heard.over).count() < QUIET + 1 {
            // A line of each, one after the other, while the flood goes on; then all end.
            if said < QUIET * LINES && since == 0 {
                writers[said % QUIET].write_all_bytes(format!("line {}\n", said / QUIET).into()).await.unwrap();
                (said, since) = (said + 1, 1);
            } else if said == QUIET * LINES && heard.values().map(|heard| heard.lines).sum::<usize>() == said {
                writers.clear();
                flood.kill().unwrap();
                said += 1;
            }
            let item = wait::soon("an item", follow.recv()).await.unwrap();
            match item {
                Item::Chunk { member, chunk } => {
                    let of = heard.entry(member.container.to_string()).or_default();
                    assert!(of.started && !of.closed && of.at == chunk.offset, "{member:?} {of:?}");
                    of.at = chunk.end();
                    if &*member.container != "flood" {
                        assert_eq!(chunk.data, format!("line {}\n", of.lines).as_bytes());
                        of.lines += 1;
                        (since, most) = (0, most.max(since));
                    } else if since > 0 {
                        since += chunk.data.len();
                    }
                }
                Item::Gap { member, gap } => {
                    assert_eq!(&*member.container, "flood", "a quiet one's line was lost: {gap:?}");
                    let of = heard.entry(member.container.to_string()).or_default();
                    assert_eq!(of.at, gap.from);
                    (of.at, of.missed) = (gap.to, of.missed + gap.bytes());
                }
                Item::Event(event) => {
                    let of = heard.entry(event.container.as_deref().unwrap().to_owned()).or_default();
                    of.started |= matches!(event.kind, Kind::ProcessStarted { .. });
                }
                Item::Closed { member, end } => {
                    let of = heard.get_mut(&*member.container).unwrap();
                    assert_eq!((of.at, of.closed), (end.stdout.bytes, false));
                    of.closed = true;
                }
                Item::End { container, report, .. } => {
                    let of = heard.get_mut(&*container).unwrap();
                    assert!(of.closed && !of.over && report.is_some());
                    of.over = true;
                }
                other => panic!("unexpected {other:?}"),
            }
            // Cut off and resumed now and then, in the middle of it all.
            if said > 0 && said % 100 == 0 && since == 0 && said <= QUIET * LINES {
                let text = follow.cursor().to_string();
                drop(follow);
                follow =
                    supervisor.resume_follow(&text.parse().unwrap(), filter.clone(), FollowOptions::default()).unwrap();
                cuts += 1;
            }
        }
        assert!(cuts > 0 && heard["flood"].at > 0);
        assert!(heard.iter().all(|(id, heard)| id == "flood" || heard.lines == LINES));
        println!(
            "at most {most} bytes of the flood before a line; {} bytes lost of {}",
            heard["flood"].missed, heard["flood"].at
        );
        assert_eq!(follow.cursor().sources(), 0);
    });
}
