//! Much at once: a thousand exits, and as many containers as descriptors allow.

use std::collections::BTreeMap;
use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures_util::future::join_all;
use orangery::events::{Item, Kind, Since};
use orangery::{Budget, ContainerHandle, ErrorKind, EventFilter, ExitStatus, ProcessHandle, ProcessId, Supervisor};
use orangery_tests::{Scene, Trial, trial, wait};

use crate::stage::{builder, limit_descriptors, play};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial!(a_thousand_processes_that_exit_at_once_are_a_thousand_true_reports).long(),
        trial!(as_many_live_as_descriptors_allow_and_one_more_is_refused_by_name).long(),
    ]
}

const ALONE: usize = 250;
const SHARED: usize = 15;
const EACH: usize = 50;

/// Ends with this code at the end of its input, which is everybody's.
fn script(code: usize) -> [String; 2] {
    ["-c".to_owned(), format!("read nothing; exit {code}")]
}

fn input(all: &PipeReader) -> OwnedFd {
    all.try_clone().unwrap().into()
}

/// 250 containers, and 750 further processes of 15 others; all read one pipe, whose end is the end of all of them.
fn a_thousand_processes_that_exit_at_once_are_a_thousand_true_reports(scene: &Scene) {
    scene.block_on(async {
        let supervisor = builder(scene).event_history(20_000).build().unwrap();
        let (ours, theirs) = std::io::pipe().unwrap();
        let mut ended = supervisor.events(Since::Now).only(EventFilter::new().kind("process_ended"));
        let (mut handles, mut alone, mut shared) = (Vec::<ProcessHandle>::new(), Vec::new(), Vec::new());
        for number in 0..ALONE {
            let command = supervisor.command("sh").args(script(number % 100)).stdin_fd(input(&ours));
            let container = command.spawn().await.unwrap();
            handles.push(container.process().clone());
            alone.push(container);
        }
        for _ in 0..SHARED {
            let container = supervisor.command("sleep").arg("1000").spawn().await.unwrap();
            for _ in 0..EACH {
                let code = handles.len() % 100;
                let command = container.command("sh").args(script(code)).stdin_fd(input(&ours));
                handles.push(command.spawn().await.unwrap());
            }
            shared.push(container);
        }
        assert_eq!(handles.len(), 1000);
        drop(ours);
        drop(theirs);
        for (number, report) in join_all(handles.iter().map(|it| it.wait())).await.into_iter().enumerate() {
            let code = ExitStatus::Code(i32::try_from(number % 100).unwrap());
            assert_eq!(report.unwrap().exit, code, "process {number}");
        }
        let mut told = BTreeMap::<(Arc<str>, ProcessId), u32>::new();
        while told.len() < 1000 {
            let Some(Item::Event(event)) = wait::soon("an event", ended.recv()).await else {
                panic!("events were lost")
            };
            let Kind::ProcessEnded { .. } = event.kind else { continue };
            let who = (event.container.clone().unwrap(), event.process.unwrap());
            *told.entry(who).or_default() += 1;
        }
        // What is told of the others comes after all of it: nobody is told twice.
        join_all(shared.iter().map(ContainerHandle::delete)).await.into_iter().for_each(Result::unwrap);
        let mut others = 0;
        while others < SHARED {
            let Some(Item::Event(event)) = wait::soon("an event", ended.recv()).await else {
                panic!("events were lost")
            };
            assert_eq!(event.process, Some(ProcessId::MAIN), "told twice");
            others += 1;
        }
        assert!(told.values().all(|times| *times == 1));
        drop(alone);
        wait::soon("shutdown", supervisor.shutdown()).await;
    });
}

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Sixteen at a time until one is refused: it is the budget that refuses, never the kernel. What ends makes room.
fn as_many_live_as_descriptors_allow_and_one_more_is_refused_by_name(scene: &Scene) {
    const NOFILE: u64 = 400;
    limit_descriptors(NOFILE);
    play(scene, async |supervisor| {
        let one = |_| async { supervisor.command("sleep").arg("1000").spawn().await };
        let (mut alive, mut refused) = (Vec::new(), Vec::new());
        // Each to its end: who drops a creation gets its room back later.
        while refused.is_empty() {
            for made in wait::soon("containers", join_all((0..16).map(one))).await {
                match made {
                    Ok(container) => alive.push(container),
                    Err(error) => refused.push(error),
                }
            }
        }
        for refused in refused {
            assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("descriptors")), "{refused}");
            assert_eq!(refused.spent().unwrap().budget, Budget::Descriptors);
        }
        let fit = orangery::containers_that_fit(NOFILE) as usize;
        assert!(alive.len() <= fit && alive.len() + 20 > fit, "{} of {fit}", alive.len());
        assert!(open() < NOFILE as usize, "{} open", open());
        let further = full(supervisor, &mut alive).await;
        join_all(alive.iter().map(ContainerHandle::delete)).await.into_iter().for_each(Result::unwrap);
        join_all(further.iter().map(|it| it.wait())).await.into_iter().for_each(|ended| drop(ended.unwrap()));
        for budget in [Budget::Containers, Budget::Descriptors, Budget::Creations, Budget::BufferBytes] {
            assert_eq!(supervisor.budgets().of(budget).used, 0, "{budget}");
        }
    });
}

/// Filled with containers, and where none fits with further processes, which are smaller: then those are refused as well, and
/// what is there works. The place of one that ends is free.
async fn full(supervisor: &Supervisor, alive: &mut Vec<ContainerHandle>) -> Vec<ProcessHandle> {
    let refused = loop {
        match supervisor.command("sleep").arg("1000").spawn().await {
            Ok(more) => alive.push(more),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.field(), Some("descriptors"), "{refused}");
    let mut further = Vec::new();
    let refused = loop {
        match alive[0].command("sleep").arg("1000").spawn().await {
            Ok(more) => further.push(more),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.field(), Some("descriptors"), "{refused}");
    assert_eq!(supervisor.list().await.unwrap().len(), alive.len());
    let last = alive.pop().unwrap();
    last.delete().await.unwrap();
    // What it had open may be closed a moment later.
    alive.push(supervisor.command("sleep").arg("1000").wait_for_room(wait::PATIENCE).spawn().await.unwrap());
    further
}
